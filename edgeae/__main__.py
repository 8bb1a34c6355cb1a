"""Run the command line: `python -m edgeae` is the same as `edgeae`."""

from edgeae.cli.main import main

main(prog_name="edgeae")
