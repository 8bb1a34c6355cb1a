"""`edgeae info`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeae.cli.console import emit
from edgeae.cli.options import TEXT, json_option, options
from edgeae.cli.program import command


@command()
@click.argument("model", type=TEXT)
@options(json_option)
def info(model: str, as_json: bool) -> None:
    """Tell what a model file or a compiled library holds."""
    from edgeae.engine.session import describe_library
    from edgeae.network.describe import describe
    from edgeae.network.shipped import LIBRARIES, find_model

    found = describe_library(Path(model)) if model.endswith(LIBRARIES) else describe(find_model(model))
    rows = [
        [key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)] for key, value in found.items()
    ]
    width = max(len(row[0]) for row in rows)
    emit(found, [f"{key:<{width}}  {value}" for key, value in rows], as_json)
