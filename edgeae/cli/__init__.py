"""The command line: each command parses, calls one library function, and prints what it returned.

Commands are in modules of their own (`run`, `train`, `bench`, `compile`, and the short ones in `main`); printing,
signals and exit codes in `console`. Imports from every room of the package; no other room imports from here.
"""
