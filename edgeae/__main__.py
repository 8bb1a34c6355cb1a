"""`python -m edgeae`: the command line."""

from edgeae.cli.main import main

main()
