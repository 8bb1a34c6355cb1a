"""The command line: one module for each command, and `main`, the group of them all.

A command parses its flags, calls one library function and prints what that returns. Shared: `options` (flags and the
types of their values), `console` (printing), `progress` (bars), `program` (errors and exit codes), `flags` (how errors
name them), `signals`, `session` (the model). Imports from every room of the package; no other room imports from here.
"""
