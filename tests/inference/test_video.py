"""Raw video frames from a pipe."""

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeae.errors import EdgeaeError, ImageError, UsageError
from edgeae.inference.load import load
from edgeae.inference.session import Session
from edgeae.inference.video import restore_frames


@pytest.fixture
def session(tiny_file: Callable[..., Path], device: str) -> Session:
    """A random tiny `conv`."""
    return load(tiny_file("conv"), device)


def film(count: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 24, 36, channels), np.uint8)


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.0])
def test_frames(session: Session, count: int, strength: float) -> None:
    frames, written = film(count), []
    assert restore_frames(session, io.BytesIO(frames.tobytes()), (36, 24), written.append, strength) == count
    for frame, result in zip(frames, written, strict=True):
        expected = frame + strength * (session.reconstruct(frame).astype(float) - frame)
        assert np.abs(result - expected).max() <= 0.51


def test_grey_frames(tiny_file: Callable[..., Path], device: str) -> None:
    session = load(tiny_file("conv", in_channels=1, out_channels=1), device)
    written: list[np.ndarray] = []
    restore_frames(session, io.BytesIO(film(2, 1).tobytes()), (36, 24), written.append)
    assert [frame.shape for frame in written] == [(24, 36, 1)] * 2


def test_a_frame_that_is_cut_short(session: Session) -> None:
    written: list[np.ndarray] = []
    with pytest.raises(ImageError, match="100 of 2592 bytes after 3 whole ones"):
        restore_frames(session, io.BytesIO(film(4).tobytes()[:-2492]), (36, 24), written.append)
    assert len(written) == 3


def test_frames_come_through_one_by_one(session: Session) -> None:
    """A frame is restored when it is there, not when the next ones are."""
    end, start = os.pipe()
    results: list[np.ndarray] = []
    arrived = threading.Event()

    def write(frame: np.ndarray) -> None:
        results.append(frame)
        arrived.set()

    def feed() -> None:
        with os.fdopen(start, "wb") as pipe:
            for frame in film(3):
                arrived.clear()
                pipe.write(frame.tobytes())
                pipe.flush()
                assert arrived.wait(30)

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(end, "rb") as pipe:
        assert restore_frames(session, pipe, (36, 24), write) == 3
    thread.join()


def test_what_goes_wrong(session: Session) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError("the cable was pulled")

    with pytest.raises(EdgeaeError, match="cable"):
        restore_frames(session, Broken(), (36, 24), lambda frame: None)  # type: ignore[arg-type]

    def full(frame: np.ndarray) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        restore_frames(session, io.BytesIO(film(50).tobytes()), (36, 24), full)


@pytest.mark.parametrize(
    ("size", "max_mem"),
    [((16384, 16384), 512), ((8192, 8192), 512), ((16384, 1), 0), ((3840, 2160), 400), ((36, 24), 0)],
    ids=["268 megapixels", "67 megapixels", "one row", "4K in 400 MB", "no memory"],
)
def test_frames_past_the_memory_are_refused(session: Session, size: tuple[int, int], max_mem: int) -> None:
    session.max_mem = max_mem << 20
    with pytest.raises(UsageError, match=rf"{size[0]}×{size[1]} take [0-9,]+ MB .*a `max_mem` of [0-9]+M"):
        restore_frames(session, io.BytesIO(), size, lambda frame: None)


def test_4k_fits_the_default(session: Session) -> None:
    session.max_mem = 512 << 20
    assert restore_frames(session, io.BytesIO(), (3840, 2160), lambda frame: None) == 0
