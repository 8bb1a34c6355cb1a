"""Calls in threads: all items in order, and without threads where there are none."""

import pytest
from helpers.threads import limit_threads

from edgeae.runtime.threads import map_in_threads


@pytest.mark.parametrize("given", [0, 1, 9])
def test_every_item_whatever_the_system_gives(given: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_threads(monkeypatch, given)
    assert map_in_threads(lambda i: i * i, range(9), 4) == [i * i for i in range(9)]


def test_other_errors_are_raised() -> None:
    with pytest.raises(RuntimeError, match="of its own"):
        map_in_threads(lambda i: (_ for _ in ()).throw(RuntimeError("of its own")), [1], 2)
