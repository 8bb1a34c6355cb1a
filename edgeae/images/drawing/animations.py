"""Write animations: GIF, WebP and animated PNG."""

import itertools
import os
import struct
from collections.abc import Sequence

from PIL import GifImagePlugin, Image

from edgeae.errors import UsageError
from edgeae.files import write_bytes_atomic
from edgeae.images.arrays import AnyImage, require_one_shape, to_pil
from edgeae.images.files.formats import check_sides, encode_pil, format_of, to_palette

# Pillow's own writers of animations merge a frame with the one before when the two are equal, or nearly so in WebP.
# Here GIF and WebP files are put together from single frames that Pillow encodes; for APNG an option prevents it.
# `showings` has the index of a picture and its duration in ms, as often as pictures are shown.
ANIMATION_FORMATS = {"gif": "GIF", "webp": "WEBP", "png": "PNG"}


def write_animation(
    frames: Sequence[AnyImage],
    path: str | os.PathLike[str],
    *,
    fps: float = 12,
    ping_pong: bool = True,
    loop: bool = True,
) -> None:
    """Write frames (H, W, C) of one size as an animated .gif, .webp (lossy, quality 90) or .png (APNG).

    `ping_pong` appends the inner frames backwards, so that the film runs to and fro: n frames become 2n - 2. Every
    frame is kept, also one that equals the frame before. GIF counts in 1/100 s: its frames differ in length where `fps`
    asks for it, and none is shorter than 2/100 s. Raises as `write_image` does, and UsageError for an `fps` outside 0.1
    to 1000.
    """
    kind = format_of(path, None, ANIMATION_FORMATS)
    if not 0.1 <= fps <= 1000:
        raise UsageError(f"An animation cannot run at {fps} frames a second: give a number from 0.1 to 1000.")
    pictures = [to_pil(frame) for frame in require_one_shape(frames)]
    check_sides(pictures[0].size, kind)
    order = list(range(len(pictures)))
    if ping_pong:
        order += order[-2:0:-1]
    showings = list(zip(order, _durations(len(order), fps, unit_ms=10 if kind == "GIF" else 1), strict=True))
    encode = {"GIF": _gif, "WEBP": _webp, "PNG": _apng}[kind]
    write_bytes_atomic(path, encode(pictures, showings, loop))


def _durations(count: int, fps: float, unit_ms: int) -> list[int]:
    """How long each frame is shown, in ms: multiples of the unit that never drift from the true times."""
    ends = [round(index * 1000 / fps / unit_ms) * unit_ms for index in range(count + 1)]
    return [max(2 * unit_ms, end - start) for start, end in itertools.pairwise(ends)]


def _gif(pictures: list[Image.Image], showings: list[tuple[int, int]], loop: bool) -> bytes:
    """GIF89a: a header without a palette for all, then frames that have each its own."""
    frames = [to_palette(picture) for picture in pictures]
    parts = [struct.pack("<6s2H3B", b"GIF89a", *frames[0].size, 0, 0, 0)]
    if loop:
        parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
    for index, duration in showings:
        parts += GifImagePlugin.getdata(frames[index], duration=duration, include_color_table=True, interlace=0)
    return b"".join([*parts, b";"])


def _webp(pictures: list[Image.Image], showings: list[tuple[int, int]], loop: bool) -> bytes:
    """WebP container, https://developers.google.com/speed/webp/docs/riff_container: each ANMF chunk a whole frame."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    def uint24(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    width, height = pictures[0].size
    # A still WebP is a 12-byte RIFF header and the chunk with the pixels.
    frames = [encode_pil(picture, "WEBP", {"quality": 90, "method": 4})[12:] for picture in pictures]
    chunks = chunk(b"VP8X", b"\x02\0\0\0" + uint24(width - 1, height - 1))  # 2: animated
    chunks += chunk(b"ANIM", struct.pack("<IH", 0, 0 if loop else 1))
    for index, duration in showings:
        place = uint24(0, 0, width - 1, height - 1, duration)
        chunks += chunk(b"ANMF", place + b"\x02" + frames[index])  # 2: no blending
    return chunk(b"RIFF", b"WEBP" + chunks)


def _apng(pictures: list[Image.Image], showings: list[tuple[int, int]], loop: bool) -> bytes:
    frames = [pictures[index] for index, _ in showings]
    if len(frames) == 1:
        return encode_pil(frames[0], "PNG", {})
    options = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": [duration for _, duration in showings],
        "loop": 0 if loop else 1,
        "blend": [index % 2 for index in range(len(frames))],  # no difference for opaque frames, but never merged
    }
    return encode_pil(frames[0], "PNG", options)
