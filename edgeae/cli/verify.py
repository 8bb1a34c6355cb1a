"""`edgeae verify`: check a model's output on a device."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgeae.cli.console import emit
from edgeae.cli.options import TEXT, device_option, json_option, options, threads_option
from edgeae.cli.program import command
from edgeae.cli.session import open_session
from edgeae.errors import GateError


@command()
@click.argument("model", type=TEXT)
@options(device_option, threads_option(), json_option)
def verify(model: str, device: str | None, threads: int | None, as_json: bool) -> None:
    """Check that a model gives the right output on a device.

    Runs the golden input that is stored in the file. Exits with code 4 if the output is out of tolerance.
    """
    from edgeae.inference.golden import verify as verify_session

    result = verify_session(open_session(model, device, threads=threads))
    verdict = "passed" if result.passed else "FAILED"
    emit(
        asdict(result) | {"passed": result.passed},
        f"{verdict} on {result.device}: largest difference {result.largest_error:.2e}, allowed {result.tolerance:.2e}",
        as_json,
    )
    if not result.passed:
        raise GateError(f"{model} is out of tolerance on {result.device}.")
