"""`edgeae run --raw`: restore raw video frames from a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeae.cli.console import binary, note
from edgeae.cli.options import PIPE
from edgeae.cli.session import note_fixed_size
from edgeae.errors import ImageError, UsageError
from edgeae.files import is_file

if TYPE_CHECKING:
    from edgeae.inference.session import Session


def restore_frames(
    session: Callable[[], Session], source: Path, target: Path, size: tuple[int, int], strength: float
) -> None:
    """Restore raw frames of `size`, width and height, from a file or standard input.

    The results are PNG files in the folder `target`, or raw frames on standard output.
    """
    from edgeae.images.files.array_io import write_image
    from edgeae.images.files.formats import WRITE_FORMATS
    from edgeae.images.files.pillow_guard import why_unreadable
    from edgeae.inference import video

    if target.suffix.lower().removeprefix(".") in WRITE_FORMATS or is_file(target):
        raise UsageError(f"-o {target} is one picture; for frames give a folder, or - for raw ones.")
    count, started = 0, time.perf_counter()

    def write(frame: Any) -> None:
        nonlocal count
        count += 1
        if target == PIPE:
            stream = binary(sys.stdout, "output")
            stream.write(frame.tobytes())
            stream.flush()
        else:
            write_image(frame, target / f"{count:06}.png", like=None if source == PIPE else source)

    try:
        stream = binary(sys.stdin, "input") if source == PIPE else source.open("rb")
    except OSError as error:
        raise ImageError(f"{source} {why_unreadable(error)}") from error
    with stream:
        network = session()
        note_fixed_size(network)
        video.restore_frames(network, stream, size, write, strength)
    if not count:
        raise ImageError(
            f"{'Standard input' if source == PIPE else source} holds no frames: check where it comes from."
        )
    seconds = time.perf_counter() - started
    note(f"{count} frames in {seconds:.1f} s ({count / seconds:.1f} frames/s)")
