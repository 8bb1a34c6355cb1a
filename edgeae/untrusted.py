"""Read what comes from anywhere: regular files only, of a size that is bounded first, and JSON without surprises."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from edgeae.errors import EdgeaeError

# Opening a pipe that nobody writes to would wait for ever; Windows has neither the flag nor such pipes among files.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def open_regular(path: Path, most_bytes: int, kind: str, error: type[EdgeaeError]) -> Iterator[BufferedReader]:
    """Open a regular file for reading, unless it is larger than any of its kind.

    Args:
        path: the file.
        most_bytes: size past which it is refused.
        kind: what it should be, such as `weight file`; for messages.
        error: class of the error.

    Raises:
        error: there is no such file; it is a folder, a pipe, a socket or a device; it is too large; or reading it
            fails, inside the block too.
    """
    try:
        _require_regular(path, path.stat().st_mode, kind, error)  # before it is opened, which a device might notice
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _AT_ONCE)) as file:
            status = os.fstat(file.fileno())
            _require_regular(path, status.st_mode, kind, error)
            if status.st_size > most_bytes:
                raise error(f"{path}: {status.st_size:,} bytes is more than any {kind} of this package.")
            yield file
    except FileNotFoundError:
        raise error(f"{path}: no such {kind}; check the path.") from None
    except (OSError, ValueError) as e:  # ValueError: a name with a zero in it
        raise error(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}).") from None


def _require_regular(path: Path, mode: int, kind: str, error: type[EdgeaeError]) -> None:
    if stat.S_ISDIR(mode):
        raise error(f"{path} is a folder; name the {kind} in it.")
    if not stat.S_ISREG(mode):  # a pipe or /dev/zero would never end
        raise error(f"{path} is not a regular file; copy the {kind} to one.")


def parse_json(text: bytes | bytearray) -> Any:
    """Parse UTF-8 JSON in which no key occurs twice and every number is finite.

    Raises:
        ValueError: it is anything else, or nested too deeply.
    """
    try:
        return json.loads(text.decode(), object_pairs_hook=_no_duplicates, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
