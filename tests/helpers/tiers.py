"""The two tiers of tests.

`make test` runs every behaviour once, in minutes. `make test-all` sets EDGEAE_TESTS=all: it also runs what is marked
`exhaustive` (whole matrices, slow backends, sanitizers over all instruction sets, cross-compilers) and draws more
random cases.
"""

import os
from collections.abc import Iterable
from itertools import product
from typing import Any, TypeVar

import pytest

ALL = os.environ.get("EDGEAE_TESTS") == "all"
exhaustive = pytest.mark.exhaustive
T = TypeVar("T")


def by_tier(short: T, exhaustive: T) -> T:
    """Return a number, or whatever else, for the tier that runs."""
    return exhaustive if ALL else short


def first_of(values: Iterable[Any], short: int = 1) -> list[Any]:
    """Parametrize over all `values`, of which `make test` runs the first `short`."""
    return [value if i < short else pytest.param(value, marks=exhaustive) for i, value in enumerate(values)]


def diagonal(*axes: Iterable[Any]) -> list[Any]:
    """Parametrize over all combinations of `axes`, of which `make test` runs as few as use every value once."""
    values = [list(axis) for axis in axes]
    short = [tuple(axis[i % len(axis)] for axis in values) for i in range(max(map(len, values)))]
    return [pytest.param(*row, marks=[] if row in short else [exhaustive]) for row in product(*values)]
