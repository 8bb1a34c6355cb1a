"""`edgeae devices`: list what can run a model."""

from __future__ import annotations

from edgeae.cli.console import emit
from edgeae.cli.options import json_option, options
from edgeae.cli.program import command
from edgeae.errors import DeviceError
from edgeae.formatting import table


@command()
@options(json_option)
def devices(as_json: bool) -> None:
    """List the devices: which are usable, and why others are not.

    For each that is not usable, prints the command that would mend it.
    """
    from edgeae.runtime.devices import probe_all

    statuses = probe_all()
    rows = [[s.name, "yes" if s.usable else "no", s.detail if s.usable else s.reason] for s in statuses]
    mends = [f"  {s.name}: {s.mend}" for s in statuses if not s.usable and s.mend]
    emit(statuses, [*table(["device", "usable", ""], rows), *(["", "to mend:", *mends] if mends else [])], as_json)
    if not any(s.usable for s in statuses):
        raise DeviceError("no device is usable; the table says why.")
