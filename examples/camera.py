"""Restore pictures as they come, from a folder, a film or a Raspberry Pi's camera.

    python examples/camera.py photos/ -o restored/                        # every picture, in order of name
    python examples/camera.py incoming/ --follow -o restored/ --keep 500  # and new ones, until Ctrl-C
    python examples/camera.py film.mp4 -o frames/ --size 640x480          # needs ffmpeg; GIF and WebP do not
    python examples/camera.py camera -o /dev/shm/newest.jpg               # needs rpicam-vid; keeps the newest frame

`camera` reads JPEG pictures from rpicam-vid of Raspberry Pi OS: the padding of its raw frames differs from
model to model, and picamera2 would bring a second NumPy. It was tested only with a stand-in for rpicam-vid.
"""

import argparse
import contextlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from io import BufferedReader
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

import edgeae
from edgeae.images.arrays import fit
from edgeae.images.files.array_io import read_image, write_image
from edgeae.images.files.formats import WRITE_FORMATS
from edgeae.images.files.pillow_guard import READ_FORMATS, ImageSource
from edgeae.inference.collect import Item
from edgeae.inference.watch import watch

# Name of the result, source of the picture for read_image, and number of frames that were dropped before it.
Frames = Generator[tuple[str, ImageSource, int], None, None]


def is_picture(path: Path) -> bool:
    """Return whether a file has the name of a picture that can be written."""
    return path.suffix[1:].lower() in WRITE_FORMATS


def pictures(folder: Path) -> Frames:
    """Yield the picture files of a folder, in the order of their names."""
    for path in sorted(filter(is_picture, folder.iterdir())):
        yield path.name, path, 0


def incoming(folder: Path, output: Path) -> Frames:
    """Yield the picture files of a folder and then, for ever, each that is added or changed, once it is whole."""
    for item in watch(folder, output, threading.Event(), overwrite=True):
        if isinstance(item, Item):
            yield item.source.name, item.source, 0
        else:  # the folder is gone, a sub-folder cannot be listed, and the like
            print(item, file=sys.stderr)


def animation(path: Path) -> Frames:
    """Yield the frames of a GIF, WebP or PNG file."""
    with Image.open(path, formats=READ_FORMATS) as film:
        for i, frame in enumerate(ImageSequence.Iterator(film)):
            yield f"{path.stem}-{i:06d}.png", frame, 0


@contextlib.contextmanager
def output_of(*command: str) -> Iterator[BufferedReader]:
    """Run a program in the block, and give its standard output."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert isinstance(process.stdout, BufferedReader)
            yield process.stdout
            if process.wait():
                raise edgeae.EdgeaeError(f"{command[0]} failed; its own message says why.")
        finally:
            process.terminate()


def video(path: Path, width: int, height: int) -> Frames:
    """Yield the frames of a film that ffmpeg can read, scaled and cut to a size."""
    fit = f"scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height}"
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    with output_of("ffmpeg", "-v", "error", "-i", f"file:{path}", "-vf", fit, *raw) as stream:
        for i, pixels in enumerate(iter(lambda: stream.read(width * height * 3), b"")):
            yield f"{path.stem}-{i:06d}.jpg", Image.frombytes("RGB", (width, height), pixels), 0


def camera(width: int, height: int) -> Frames:
    """Yield the newest frame each time. A thread reads all; those that come while one is restored are dropped."""
    newest: queue.Queue[tuple[bytes, int]] = queue.Queue(1)

    def read(stream: BufferedReader) -> None:
        data, end, dropped = b"", b"\xff\xd9", 0  # a JPEG without a thumbnail has its end marker once
        with contextlib.suppress(ValueError):  # the stream is closed, as the program ends
            while part := stream.read1(1 << 16):
                *whole, data = (data + part).split(end)
                for jpeg in whole:
                    with contextlib.suppress(queue.Empty):
                        dropped = newest.get_nowait()[1] + 1
                    newest.put((jpeg + end, dropped))
                    dropped = 0
        newest.put((b"", 0))

    with output_of(
        "rpicam-vid",
        "--verbose=0",
        "--nopreview",
        "--timeout=0",
        "--codec=mjpeg",
        "--flush",
        f"--width={width}",
        f"--height={height}",
        "--output=-",
    ) as stream:
        threading.Thread(target=read, args=(stream,), daemon=True).start()
        for jpeg, dropped in iter(newest.get, (b"", 0)):
            yield time.strftime("%Y%m%d-%H%M%S-") + f"{time.time_ns() // 10**6 % 1000:03d}.jpg", jpeg, dropped


def open_source(source: Path, output: Path, size: tuple[int, int], follow: bool) -> Frames:
    """Return the frames of a source, which is `camera`, a folder, an animation or a film."""
    if str(source) == "camera":
        return camera(*size)
    if source.is_dir():
        return incoming(source, output) if follow else pictures(source)
    return animation(source) if is_picture(source) else video(source, *size)


class NewestResults:
    """The results in a folder, of this run and of those before it; only the newest are kept.

    Only files named restored-* are counted and deleted.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._paths = deque(sorted(folder.glob("restored-*"), key=lambda path: path.stat().st_mtime))
        self._keep = keep

    def add(self, path: Path) -> None:
        """Count a new result, and delete the oldest ones."""
        if path in self._paths:
            self._paths.remove(path)
        self._paths.append(path)
        while len(self._paths) > self._keep:
            self._paths.popleft().unlink(missing_ok=True)


class Speed:
    """Frames a second and the share of dropped frames, printed once a second."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._restored, self._dropped, self._busy_s, self._since = 0, 0, 0.0, time.monotonic()

    def count(self, busy_s: float, dropped: int) -> None:
        """Count a frame that took `busy_s` seconds, and the frames that were dropped before it."""
        self._restored, self._dropped, self._busy_s = self._restored + 1, self._dropped + dropped, self._busy_s + busy_s
        if (seconds := time.monotonic() - self._since) >= 1:
            print(
                f"{self._restored / seconds:.1f} frames/s, {self._busy_s / self._restored * 1e3:.0f} ms a frame, "
                f"{self._dropped / (self._restored + self._dropped):.0%} dropped",
                file=sys.stderr,
            )
            self._reset()


def size(text: str) -> tuple[int, int]:
    """Return width and height of a text such as 640x480."""
    width, height = map(int, text.lower().split("x"))
    return width, height


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder of pictures, a film, or the word camera")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder, or one picture file")
    parser.add_argument("-m", "--model", default="photos-residual", help="a shipped name or a weight file")
    parser.add_argument("-d", "--device", help="one that `edgeae devices` lists; by default the best")
    parser.add_argument(
        "--size", type=size, default="320x240", help="scale and cut every picture to this size (default: %(default)s)"
    )
    parser.add_argument("--follow", action="store_true", help="wait for more pictures in the folder")
    parser.add_argument(
        "--keep", type=int, help="newest results to keep (default: 1000 with --follow or a camera, else all)"
    )
    args = parser.parse_args(arguments)
    if args.source.resolve() == args.output.resolve():
        parser.error("-o names the source itself")
    endless = args.follow or str(args.source) == "camera"
    results = NewestResults(args.output, max(1, args.keep or (1000 if endless else sys.maxsize)))

    model = edgeae.load(args.model, args.device)
    for _ in range(2):  # compiles the network, so that no frame waits for that
        model.reconstruct(np.zeros((*args.size[::-1], model.config.in_channels), np.uint8))
    speed = Speed()
    with contextlib.closing(open_source(args.source, args.output, args.size, args.follow)) as frames:
        for name, picture, dropped in frames:
            if stopped:
                return
            started = time.monotonic()
            target = args.output if is_picture(args.output) else args.output / f"restored-{name}"
            try:
                pixels = fit(read_image(picture, model.config.in_channels), args.size)
                write_image(model.reconstruct(pixels), target)
            except edgeae.ImageError as error:  # one bad picture does not stop the others
                print(error, file=sys.stderr)
                continue
            if target != args.output:
                results.add(target)
            speed.count(time.monotonic() - started, dropped)


stopped: list[int] = []  # signals that came: an exception that one raises in a finalizer would be lost


def stop(number: int, frame: object) -> None:
    """Handle a signal."""
    stopped.append(number)
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # `systemctl stop` ends it as Ctrl-C does
        signal.signal(number, stop)
    try:
        main()
    except KeyboardInterrupt:
        pass
    except (edgeae.EdgeaeError, OSError) as error:
        sys.exit(f"{error}")
