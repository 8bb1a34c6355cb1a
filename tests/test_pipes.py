"""Test pipes.py: a pipe that nobody reads."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeae.files import write_bytes_atomic
from edgeae.interrupts import interrupted

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    os.mkfifo(tmp_path / "pipe")
    yield tmp_path / "pipe"
    interrupted.clear()


def test_a_pipe_waits_for_its_reader(pipe: Path) -> None:
    data, received = bytes(range(256)) * 2000, []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    threading.Timer(0.2, reader.start).start()
    write_bytes_atomic(pipe, data)
    reader.join(10)
    assert received == [data]


@pytest.mark.parametrize("has_reader", [False, True], ids=["nobody opens it", "nobody reads"])
def test_an_interrupt_is_answered(pipe: Path, has_reader: bool) -> None:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if has_reader else -1
    threading.Timer(0.2, interrupted.set).start()
    with pytest.raises(KeyboardInterrupt):
        write_bytes_atomic(pipe, bytes(1 << 20))
    if has_reader:
        os.close(reader)
