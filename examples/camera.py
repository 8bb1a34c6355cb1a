"""Restore pictures as they come, on a Raspberry Pi or any computer: from a folder, a film or the Pi's camera.

    python examples/camera.py photos/ -o restored/                        # every picture, in the order of their names
    python examples/camera.py incoming/ --follow -o restored/ --keep 500  # and those still to come, until Ctrl-C
    python examples/camera.py film.mp4 -o frames/ --size 640x480          # needs ffmpeg; GIF and WebP do not
    python examples/camera.py camera -o /dev/shm/newest.jpg               # needs rpicam-vid; always the newest frame

`camera` reads JPEG pictures from rpicam-vid, which comes with Raspberry Pi OS: its raw frames have padding that differs
from model to model, and picamera2 would bring a second NumPy. It was tried with a stand-in for rpicam-vid only.
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
from edgeae.images.files.decoding import READ_FORMATS, ImageSource
from edgeae.images.files.formats import WRITE_FORMATS
from edgeae.inference.folder import watched

# What a file is called, what read_image takes, and how many frames were dropped before it.
Frames = Generator[tuple[str, ImageSource, int], None, None]


def is_picture(path: Path) -> bool:
    return path.suffix[1:].lower() in WRITE_FORMATS


def pictures(folder: Path) -> Frames:
    """Yield the picture files of a folder, in the order of their names."""
    for path in sorted(filter(is_picture, folder.iterdir())):
        yield path.name, path, 0


def incoming(folder: Path, output: Path) -> Frames:
    """Yield the picture files of a folder and then, for ever, each that is added or changed, once it is whole."""
    for item in watched(folder, output, threading.Event(), overwrite=True):
        yield item.source.name, item.source, 0


def animation(path: Path) -> Frames:
    with Image.open(path, formats=READ_FORMATS) as film:
        for i, frame in enumerate(ImageSequence.Iterator(film)):
            yield f"{path.stem}-{i:06d}.png", frame, 0


@contextlib.contextmanager
def output_of(*command: str) -> Iterator[BufferedReader]:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert isinstance(process.stdout, BufferedReader)
            yield process.stdout
            if process.wait():
                raise edgeae.EdgeaeError(f"{command[0]} failed; its own message says why.")
        finally:
            process.terminate()


def video(path: Path, width: int, height: int) -> Frames:
    fit = f"scale={width}:{height}:force_original_aspect_ratio=increase,crop={width}:{height}"
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    with output_of("ffmpeg", "-v", "error", "-i", f"file:{path}", "-vf", fit, *raw) as stream:
        for i, pixels in enumerate(iter(lambda: stream.read(width * height * 3), b"")):
            yield f"{path.stem}-{i:06d}.jpg", Image.frombytes("RGB", (width, height), pixels), 0


def camera(width: int, height: int) -> Frames:
    """The newest frame each time: a thread reads them all, and drops those that come while one is restored."""
    newest: queue.Queue[tuple[bytes, int]] = queue.Queue(1)

    def read(stream: BufferedReader) -> None:
        data, end, dropped = b"", b"\xff\xd9", 0  # a JPEG picture without a thumbnail has its end mark only once
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


def size(text: str) -> tuple[int, int]:
    width, height = map(int, text.lower().split("x"))
    return width, height


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder of pictures, a film, or the word camera")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder, or one picture file")
    parser.add_argument("-m", "--model", default="photos-residual", help="a shipped name or a weight file")
    parser.add_argument("-d", "--device", help="one that `edgeae devices` lists; by default the best")
    parser.add_argument("--size", type=size, default="320x240", help="every frame is scaled and cut to it")
    parser.add_argument("--follow", action="store_true", help="wait for more pictures in the folder")
    parser.add_argument("--keep", type=int, help="newest results to keep; 1000 with --follow and a camera, else all")
    args = parser.parse_args(arguments)
    if args.source.resolve() == args.output.resolve():
        parser.error("-o names the source itself")
    live = str(args.source) == "camera"
    keep = max(1, args.keep or (1000 if live or args.follow else sys.maxsize))

    model = edgeae.load(args.model, args.device)
    for _ in range(2):  # compiles the network, so that no frame waits for that
        model.reconstruct(np.zeros((*args.size[::-1], model.config.in_channels), np.uint8))
    frames = (
        camera(*args.size)
        if live
        else incoming(args.source, args.output)
        if args.follow and args.source.is_dir()
        else pictures(args.source)
        if args.source.is_dir()
        else animation(args.source)
        if is_picture(args.source)
        else video(args.source, *args.size)
    )

    # Only what has this script's mark in its name is deleted: results of now, and of before a restart.
    results = deque(sorted(args.output.glob("restored-*"), key=lambda path: path.stat().st_mtime))
    restored, dropped, busy_s, since = 0, 0, 0.0, time.monotonic()
    with contextlib.closing(frames):
        for name, picture, missed in frames:
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
            if target in results:
                results.remove(target)
            if target != args.output:
                results.append(target)
            while len(results) > keep:
                results.popleft().unlink(missing_ok=True)
            now = time.monotonic()
            restored, dropped, busy_s = restored + 1, dropped + missed, busy_s + now - started
            if now - since >= 1:
                print(
                    f"{restored / (now - since):.1f} frames/s, {busy_s / restored * 1e3:.0f} ms a frame, "
                    f"{dropped / (restored + dropped):.0%} dropped",
                    file=sys.stderr,
                )
                restored, dropped, busy_s, since = 0, 0, 0.0, now


stopped: list[int] = []  # signals; one that comes while Python tidies up an object is forgotten, if it only raises


def stop(number: int, frame: object) -> None:
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
