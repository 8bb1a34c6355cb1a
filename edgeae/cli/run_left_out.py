"""Tell what a run leaves out, grouped by reason, so that ten thousand files are a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from edgeae.cli.console import complain, note

if TYPE_CHECKING:
    from edgeae.images.files.listing import LeftOut

_NAMES = 3  # of each group
_GROUPS = 12


def tell_left_out(left_out: Sequence[LeftOut]) -> None:
    """Print a line for each reason: as an error where photos are missed, else as a note."""

    def key(one: LeftOut) -> tuple[bool, str]:
        return not one.missed, one.reason

    groups = [(missed, reason, list(group)) for (missed, reason), group in groupby(sorted(left_out, key=key), key=key)]
    for not_missed, reason, group in groups[:_GROUPS]:
        names = ", ".join(one.path for one in group[:_NAMES]) + (", …" if len(group) > _NAMES else "")
        line = f"{len(group)} left out ({names}): {reason}"
        (note if not_missed else complain)(line)
    if rest := sum(len(group) for _, _, group in groups[_GROUPS:]):
        note(f"{rest} left out for other reasons: --json lists them all")
