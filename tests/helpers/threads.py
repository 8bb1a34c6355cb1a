"""A system that gives a process only so many threads."""

import threading

import pytest


def limit_threads(monkeypatch: pytest.MonkeyPatch, given: int) -> None:
    """Let only so many threads start; the next one fails as it does at the system's limit."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if len(started) == given:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
