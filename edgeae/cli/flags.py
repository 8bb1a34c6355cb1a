"""Turn the arguments that a sentence of the library names into the flags of the running command."""

from __future__ import annotations

import re

import click

from edgeae.errors import MEMORY_ARGUMENTS, advise_on_memory

# By command: flags of arguments that have another name in the library than on the command line.
_RENAMED = {
    "export": {"scheme": "--quantize"},
    "run": {"size": "--raw"},
    "train": {"run": "-o"},
}
# The short form is the one that help and documentation use.
_SHORT = {"device": "-d", "output": "-o"}


def name_flags(sentence: str) -> str:
    """Replace each argument in backticks by the flag that the running command has for it.

    A sentence of the library such as "`strength` must be between 0 and 1." becomes "--strength must be between 0 and
    1.". What the command has no flag for stays as it is.
    """
    command = _running_command()
    if command is None:
        return sentence
    flags = _flags_of(command)
    return re.sub(r"`(\w+)`", lambda match: flags.get(match[1], match[0]), sentence)


def describe_lack_of_memory(what: str) -> str:
    """Return the sentence for too little memory, with those of the running command's flags that would take less."""
    command = _running_command()
    flags = {} if command is None else _flags_of(command)
    return f"{what}: {advise_on_memory({name: flags[name] for name in MEMORY_ARGUMENTS if name in flags})}."


def _running_command() -> click.Command | None:
    """Return the command that runs, or that has just failed and left the context to its group."""
    context = click.get_current_context(silent=True)
    if context is None:
        return None
    if isinstance(context.command, click.Group):
        return context.command.commands.get(context.invoked_subcommand or "")
    return context.command


def _flags_of(command: click.Command) -> dict[str, str]:
    """Return a command's longest flag of each option, by the names of its parameter and of the flag itself."""
    flags = {}
    for option in command.params:
        if isinstance(option, click.Option) and option.name:
            flag = max(option.opts, key=len)
            flags[option.name] = flags[flag.lstrip("-").replace("-", "_")] = flag
    short = {name: flag for name, flag in _SHORT.items() if name in flags}
    return flags | short | _RENAMED.get(command.name or "", {})
