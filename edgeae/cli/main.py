"""The program `edgeae`: the group of all commands.

Commands import heavy modules inside their functions, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

import click

from edgeae._version import __version__
from edgeae.cli.bench import bench
from edgeae.cli.compile import compile_
from edgeae.cli.corrupt import corrupt
from edgeae.cli.devices import devices
from edgeae.cli.evaluate import evaluate
from edgeae.cli.export import export
from edgeae.cli.info import info
from edgeae.cli.interpolate import interpolate
from edgeae.cli.options import options
from edgeae.cli.profile import profile
from edgeae.cli.program import Program
from edgeae.cli.run import run
from edgeae.cli.sample import sample
from edgeae.cli.train import train
from edgeae.cli.verify import verify

COMMANDS = (
    bench,
    compile_,
    corrupt,
    devices,
    evaluate,
    export,
    info,
    interpolate,
    profile,
    run,
    sample,
    train,
    verify,
)


@click.group("edgeae", cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@options()
@click.version_option(__version__, message="edgeae %(version)s")
def main() -> None:
    """Three image autoencoders that train and run on CUDA, Metal, OpenCL or CPU.

    Restore your own photo, or the sample pictures:

    \b
        edgeae run photo.jpg
        edgeae run
    """


for _command in COMMANDS:
    main.add_command(_command)
