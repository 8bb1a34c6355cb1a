"""Run the command line: `python -m edgeae` is the same as `edgeae`."""

import sys


def main() -> None:
    """Run the command line; an interrupt while it is imported is told as every other is."""
    try:
        from edgeae.cli.main import main as run
    except KeyboardInterrupt:
        sys.stderr.write("edgeae: interrupted.\n")
        raise SystemExit(130) from None
    run(prog_name="edgeae")


if __name__ == "__main__":
    main()
