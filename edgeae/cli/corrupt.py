"""`edgeae corrupt`: damage an image."""

from __future__ import annotations

from pathlib import Path

import click

from edgeae.cli.console import emit
from edgeae.cli.options import PATH, json_option, options, output_option, seed_option
from edgeae.cli.program import command


@command()
@click.argument("source", type=PATH, metavar="INPUT")
@options(
    output_option("File for the damaged image.", required=True),
    click.option("--corrupt", required=True, metavar="SPEC", help="Damage, for example occlude:0.2 or noise:0.1+blur."),
    seed_option,
    json_option,
)
def corrupt(source: Path, output: Path, corrupt: str, seed: int, as_json: bool) -> None:
    """Damage an image, as training does.

    SPEC is none, occlude, scratch, pixels, smear, noise, blur, jpeg, gray or shift. Add a strength (occlude:0.2) or a
    range of strengths (occlude:0.1..0.3). Join several with + to apply all of them, or with commas to apply one of
    them.
    """
    from edgeae.images.damage.apply import corrupt_file

    share = corrupt_file(source, output, corrupt, seed)
    emit(
        {"input": source, "output": output, "corrupt": corrupt, "seed": seed, "replaced": share},
        f"{output}  {share:.1%} of the pixels touched",
        as_json,
    )
