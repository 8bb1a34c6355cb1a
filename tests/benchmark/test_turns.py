"""Engines that take turns."""

import time
from typing import Any

import pytest

from edgeae.benchmark.turns import Engine, Timing, Turns, WrongOutput


@pytest.fixture(autouse=True)
def no_idle_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeae.benchmark.turns.IDLE_S", 0.0)


def engine(name: str, seconds: float = 0.0, output: float = 1.0, **others: Any) -> Engine:
    def call(count: int) -> float:
        time.sleep(seconds)
        return output

    def check(count: int, found: float) -> None:
        if found != 1.0:
            raise WrongOutput(f"{found}, not 1")

    return Engine(name, call, check, **others)


def test_engines_take_turns() -> None:
    order: list[str] = []
    names = ("a", "b", "c")
    engines = [Engine(name, lambda i, name=name: order.append(name), lambda i, output: None, calls=1) for name in names]
    turns = Turns(engines)
    assert turns.run(3) == 3
    assert order == [name for name in "abcbcacab" for _ in range(2)]  # each is called once before it is timed
    assert {len(timing.turns) for timing in turns.timings.values()} == {3}


def test_a_wrong_output_has_no_time() -> None:
    turns = Turns([engine("right", calls=2), engine("wrong", output=2.0, calls=2)])
    turns.warm_up()
    turns.run(2)
    assert turns.timings["wrong"].wrong == "2.0, not 1" and not turns.timings["wrong"].turns
    assert len(turns.timings["right"].seconds) == 4


def test_time_is_kept_to() -> None:
    turns = Turns([engine("slow", 0.02, calls=1)])
    assert turns.run(100, until=time.perf_counter() + 0.05) < 5


def test_a_pace() -> None:
    turns = Turns([engine("a", calls=4)], 0.0, 50.0, 1 << 16)
    started = time.perf_counter()
    turns.run(1)
    assert 0.08 <= time.perf_counter() - started < 2
    assert max(turns.timings["a"].seconds) < 0.02


def test_a_slowed_processor_marks_the_turn() -> None:
    turns = Turns([engine("a", calls=1), engine("b", calls=1)], is_throttled=iter([False, True]).__next__)
    turns.run(1)
    assert [timing.throttled for timing in turns.timings.values()] == [False, True]


def test_spread() -> None:
    timing = Timing(turns=[[1.0, 1.0], [1.0, 1.0], [1.5, 1.5]])
    assert timing.seconds == [1.0, 1.0, 1.0, 1.0, 1.5, 1.5] and timing.spread == pytest.approx(0.5)
