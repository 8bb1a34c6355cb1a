"""Restore raw video frames one by one, as `ffmpeg -f rawvideo -pix_fmt rgb24` writes and reads them.

A frame is height × width × channels bytes, row by row, without any header; a network with one channel takes gray ones.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from edgeae.errors import EdgeaeError, ImageError, UsageError
from edgeae.inference import tiles
from edgeae.inference.session import Session

Pixels = npt.NDArray[np.uint8]
_AHEAD = 1  # frames that wait while one is in the network and the next one is read
# Bytes of each value: of the frames that are held, and as floats; of the result as floats, joined, and rounded.
_BYTES_IN, _BYTES_OUT = 3 + 4, 4 + 4 + 4 + 1


def restore_frames(
    session: Session, source: BinaryIO, size: tuple[int, int], write: Callable[[Pixels], None], strength: float = 1.0
) -> int:
    """Restore frames until the source ends, and return how many there were.

    Args:
        session: the model.
        source: raw frames; the next ones are read while one is in the network.
        size: width and height of a frame in pixels.
        write: called with each result, uint8 (height, width, C), in order. A vae's have its own size.
        strength: 0 keeps the frame, 1 takes the network's result, between them a mixture.

    Raises:
        UsageError: a frame needs more than the session's memory.
        ImageError: the source ended within a frame; the frames before it were written.
        EdgeaeError: the source cannot be read.
    """
    width, height = size
    shape = height, width, session.config.in_channels
    max_mem = tiles.default_memory() if session.max_mem is None else session.max_mem
    needed = width * height * (_BYTES_IN * session.config.in_channels + _BYTES_OUT * session.config.out_channels)
    if needed > max_mem:  # the network takes pieces, but a frame is read and written as a whole
        raise UsageError(
            f"frames of {width}×{height} take {needed >> 20:,} MB beside the network and `max_mem` is "
            f"{max_mem >> 20:,} MB: give a `max_mem` of {-(-needed >> 20)}M or more, or smaller frames."
        )
    frames: queue.Queue[bytes | Exception] = queue.Queue(_AHEAD)
    stop = threading.Event()
    threading.Thread(target=_read_frames, args=(source, int(np.prod(shape)), frames, stop), daemon=True).start()
    count = 0
    try:
        while frame := _next_frame(frames):
            if len(frame) < np.prod(shape):
                raise ImageError(
                    f"The input ends within a frame, {len(frame)} of {np.prod(shape)} bytes after {count} "
                    "whole ones: check that `size` is the size of its frames."
                )
            image = np.frombuffer(frame, np.uint8).reshape(shape)
            result = session.reconstruct(image)
            if strength < 1 and result.shape == image.shape:
                result = np.rint(image + strength * (result.astype(np.float32) - image)).astype(np.uint8)
            write(result)
            count += 1
    finally:
        stop.set()
    return count


def _next_frame(frames: queue.Queue[bytes | Exception]) -> bytes:
    frame = frames.get()
    if isinstance(frame, Exception):
        raise EdgeaeError(f"The input cannot be read ({frame}): check where it comes from.") from frame
    return frame


def _read_frames(source: BinaryIO, length: int, frames: queue.Queue[bytes | Exception], stop: threading.Event) -> None:
    """Put frames into the queue; the last one is too short, or empty."""
    whole = True
    while whole and not stop.is_set():
        try:
            frame: bytes | Exception = source.read(length)
        except (OSError, ValueError) as error:
            frame = error
        whole = isinstance(frame, bytes) and len(frame) == length
        while not stop.is_set():
            try:
                frames.put(frame, timeout=0.1)
                break
            except queue.Full:
                continue
