"""Time engines in turns in one process, so that what disturbs the machine disturbs all of them alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

IDLE_S = 0.25  # longer than the threads of any peer spin: Intel's OpenMP waits longest, 0.2 s
TURN_S = 0.03  # a turn has as many calls as take this long, but at least 2
MAX_CALLS = 20  # in a turn
SLOW_S, SLOW_ROUNDS = 1.0, 3  # a call that takes longer is a turn by itself, and has only so many turns
STEADY = 0.1  # relative change of the median at which the warm-up ends
COMPILING = 2  # the first calls compile, so that their time says nothing about the next


class WrongOutput(Exception):
    """The output of an engine is wrong, so that its time does not count."""


@dataclass(frozen=True)
class Engine:
    """Something to time.

    Attributes:
        name: unique among those that take turns.
        call: does the work once. Its argument is the number of the call, which chooses the input.
        check: takes the number of a call and its output, and raises WrongOutput if this is wrong; not timed.
        calls: in a turn; None is as many as fit into TURN_S.
    """

    name: str
    call: Callable[[int], Any]
    check: Callable[[int, Any], None]
    calls: int | None = None


@dataclass
class Timing:
    """The times of one engine.

    Attributes:
        turns: seconds of every timed call, a list for each turn.
        warm_up: seconds of the calls before, from the first.
        wrong: why its times do not count; empty where they do.
        throttled: whether the processor was slowed down in one of its turns.
    """

    turns: list[list[float]] = field(default_factory=list)
    warm_up: list[float] = field(default_factory=list)
    wrong: str = ""
    throttled: bool = False

    @property
    def seconds(self) -> list[float]:
        """Seconds of every timed call."""
        return [second for turn in self.turns for second in turn]

    @property
    def spread(self) -> float:
        """Largest distance of a turn's median from the median of all calls, as a share of the latter."""
        medians = [float(np.median(turn)) for turn in self.turns]
        middle = float(np.median(self.seconds))
        return max(abs(median / middle - 1) for median in medians)


class Turns:
    """A schedule: every engine is warmed up, then in each round every engine has a turn.

    A turn is an idle gap, in which the threads of the engine before fall asleep, one call that is not timed, and the
    timed calls. The outputs of the first and the last call are checked. The second engine of a round is the first of
    the next. An engine with a wrong output has no more turns.

    Args:
        engines: what takes turns.
        idle_s: length of a gap in seconds; None is IDLE_S.
        pace_hz: call at this rhythm, as a camera does, and empty the caches before each call.
        cache_bytes: size of the last cache, for that.
        is_throttled: called after each turn; whether the processor was slowed down since the last call.

    Attributes:
        timings: by the engine's name.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        idle_s: float | None = None,
        pace_hz: float | None = None,
        cache_bytes: int = 64 << 20,
        is_throttled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.engines, self._pace_hz = list(engines), pace_hz
        self._idle_s = IDLE_S if idle_s is None else idle_s
        self._is_throttled = is_throttled
        self._filler = np.zeros(2 * cache_bytes, np.uint8) if pace_hz else None
        self._counts = {engine.name: 0 for engine in engines}
        self.timings = {engine.name: Timing() for engine in engines}

    def warm_up(self, most: int = 20, longest_s: float = 3.0) -> None:
        """Call each engine until its time is steady, at most `most` times or for about `longest_s` seconds."""
        for engine in self.engines:
            timing, started = self.timings[engine.name], time.perf_counter()
            while not timing.wrong and len(timing.warm_up) < most and not _is_steady(timing.warm_up):
                if len(timing.warm_up) > COMPILING and time.perf_counter() - started > longest_s:
                    break
                self._run(engine, timing.warm_up, checked=True)

    def run(self, rounds: int, until: float = math.inf, on_round: Callable[[int], None] | None = None) -> int:
        """Take turns.

        Args:
            rounds: the most rounds.
            until: value of `time.perf_counter()` after which no other round starts.
            on_round: called with the number of each finished round, from 1.

        Returns:
            Rounds that were made, at least 1.
        """
        collects = gc.isenabled()
        gc.disable()
        gc.collect()
        gc.freeze()  # what was there before need not be looked through in each round
        try:
            for r in range(rounds):
                self._round(r)
                if on_round:
                    on_round(r + 1)
                if time.perf_counter() > until:
                    return r + 1
        finally:
            gc.unfreeze()
            if collects:
                gc.enable()
        return rounds

    def _round(self, r: int) -> None:
        gc.collect()  # `run` keeps it from running within a call
        first = r % max(1, len(self.engines))
        for engine in [*self.engines[first:], *self.engines[:first]]:
            timing = self.timings[engine.name]
            slow = self._call_s(engine) > SLOW_S
            if timing.wrong or (slow and r >= SLOW_ROUNDS):
                continue
            time.sleep(self._idle_s)
            if not slow:
                self._run(engine, [], checked=True)
            calls, turn = self._calls(engine), list[float]()
            due = time.perf_counter()
            for i in range(calls):
                if self._pace_hz:
                    due += 1 / self._pace_hz
                    self._empty_caches()
                    time.sleep(max(0.0, due - time.perf_counter()))
                self._run(engine, turn, checked=i == calls - 1)
            if not timing.wrong:
                timing.turns.append(turn)
            timing.throttled |= self._is_throttled()

    def _calls(self, engine: Engine) -> int:
        if engine.calls is not None:
            return engine.calls
        call_s = self._call_s(engine)
        return 1 if call_s > SLOW_S else min(MAX_CALLS, max(2, math.ceil(TURN_S / call_s)))

    def _call_s(self, engine: Engine) -> float:
        return min(self.timings[engine.name].warm_up[-3:], default=TURN_S)

    def _empty_caches(self) -> None:
        if self._filler is not None:
            self._filler[::64] += 1  # a value of every cache line, in twice the caches' size

    def _run(self, engine: Engine, seconds: list[float], checked: bool) -> None:
        timing, count = self.timings[engine.name], self._counts[engine.name]
        if timing.wrong:
            return
        self._counts[engine.name] += 1
        started = time.perf_counter()
        output = engine.call(count)
        seconds.append(time.perf_counter() - started)
        if checked:
            try:
                engine.check(count, output)
            except WrongOutput as e:
                timing.wrong, timing.turns = str(e), []


def _is_steady(seconds: Sequence[float], window: int = 3) -> bool:
    """Return whether the last calls took as long as those before them."""
    if len(seconds) < COMPILING + 2 * window:
        return False
    before, now = np.median(seconds[-2 * window : -window]), np.median(seconds[-window:])
    return bool(abs(now / before - 1) < STEADY)
