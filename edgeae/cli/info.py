"""`edgeae info`: describe a model."""

from __future__ import annotations

from pathlib import Path

import click

from edgeae.cli.console import emit
from edgeae.cli.options import TEXT, json_option, options
from edgeae.cli.program import command
from edgeae.formatting import table


@command()
@click.argument("model", type=TEXT)
@options(json_option)
def info(model: str, as_json: bool) -> None:
    """Describe a model or a compiled library."""
    from edgeae.engine.library_file import describe_library
    from edgeae.network.describe import describe
    from edgeae.network.shipped import LIBRARIES, find_model

    description = describe_library(Path(model)) if model.endswith(LIBRARIES) else describe(find_model(model))
    rows = [
        [key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)]
        for key, value in description.items()
    ]
    emit(description, table(["", ""], rows)[1:], as_json)
