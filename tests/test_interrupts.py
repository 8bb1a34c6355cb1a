"""An interrupt is answered while a decoder is at work."""

import threading
import time

import pytest
from helpers import photo

from edgeae import interrupts
from edgeae.images.files.array_io import encode_image
from edgeae.images.files.reader import Photo


def test_an_interrupt_leaves_what_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()
    told = threading.Event()
    monkeypatch.setattr(interrupts, "interrupted", told)
    threading.Timer(0.05, told.set).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupts.run_interruptibly(lambda: ends.wait(30))
    assert time.monotonic() - started < 20
    ends.set()


def test_results_and_errors_come_through() -> None:
    assert interrupts.run_interruptibly(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        interrupts.run_interruptibly(lambda: 1 // 0)


def test_without_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert interrupts.run_interruptibly(lambda: 7) == 7


def test_large_pictures_are_decoded_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    told.set()
    monkeypatch.setattr(interrupts, "interrupted", told)
    monkeypatch.setattr(interrupts, "_POLL_S", 0)
    with Photo(encode_image(photo(1100, 1000), "jpg")) as picture, pytest.raises(KeyboardInterrupt):
        picture.load()
