"""Write animations: GIF, WebP and animated PNG (APNG)."""

import itertools
import os
import struct
from collections.abc import Sequence

from PIL import GifImagePlugin, Image

from edgeae.errors import UsageError
from edgeae.files import Inputs, write_bytes_atomic
from edgeae.images.arrays import AnyImage, require_one_shape, to_pil
from edgeae.images.files.formats import check_sides, encode_pil, format_of, to_palette

ANIMATION_FORMATS = {"gif": "GIF", "webp": "WEBP", "png": "PNG"}


def write_animation(
    frames: Sequence[AnyImage],
    path: str | os.PathLike[str],
    *,
    fps: float = 12,
    ping_pong: bool = True,
    loop: bool = True,
    like: Inputs = None,
) -> None:
    """Write frames as an animated .gif, .webp (lossy, quality 90) or .png (APNG), whole or not at all.

    Every frame is kept, also one that equals the frame before. GIF counts in 1/100 s: to keep to `fps` its frames may
    differ in length, and none is shorter than 2/100 s.

    Args:
        frames: (H, W, C) of one shape, uint8 or floats in [0, 1].
        path: the file; the extension says the format.
        fps: frames per second, 0.1 to 1000.
        ping_pong: play forwards, then backwards without the two ends: n frames become 2n - 2.
        loop: play for ever.
        like: the files it is made from, as for `files.atomic_write`.

    Raises:
        UsageError: an unknown extension, or a rate out of range.
        ImageError: there is no frame, two have different shapes, or they do not fit the format.
        EdgeaeError: the file cannot be written.
    """
    kind = format_of(path, None, ANIMATION_FORMATS)
    if not 0.1 <= fps <= 1000:
        raise UsageError(f"An animation cannot run at {fps} frames a second: give a number from 0.1 to 1000.")
    pictures = [to_pil(frame) for frame in require_one_shape(frames)]
    check_sides(pictures[0].size, kind)
    order = list(range(len(pictures)))
    if ping_pong:
        order += order[-2:0:-1]
    # The index of a picture and its duration in ms, for each time that a picture is shown.
    showings = list(zip(order, _durations(len(order), fps, unit_ms=10 if kind == "GIF" else 1), strict=True))
    encode = {"GIF": _encode_gif, "WEBP": _encode_webp, "PNG": _encode_apng}[kind]
    write_bytes_atomic(path, encode(pictures, showings, loop), like)


def _durations(count: int, fps: float, unit_ms: int) -> list[int]:
    """Return the duration of each frame in ms: multiples of the unit that do not drift from the exact times."""
    ends = [round(index * 1000 / fps / unit_ms) * unit_ms for index in range(count + 1)]
    return [max(2 * unit_ms, end - start) for start, end in itertools.pairwise(ends)]


# Pillow's own writers of animations merge a frame with the one before if the two are equal, in WebP also if they nearly
# are. So GIF and WebP files are put together here from single frames that Pillow encodes; for APNG an option helps.


def _encode_gif(pictures: list[Image.Image], showings: list[tuple[int, int]], loop: bool) -> bytes:
    """Write GIF89a: a header without a global palette, then frames with a palette each."""
    frames = [to_palette(picture) for picture in pictures]
    parts = [struct.pack("<6s2H3B", b"GIF89a", *frames[0].size, 0, 0, 0)]
    if loop:
        parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")
    for index, duration in showings:
        parts += GifImagePlugin.getdata(frames[index], duration=duration, include_color_table=True, interlace=0)
    return b"".join([*parts, b";"])


def _encode_webp(pictures: list[Image.Image], showings: list[tuple[int, int]], loop: bool) -> bytes:
    """Write a WebP container (https://developers.google.com/speed/webp/docs/riff_container), a frame in each ANMF."""

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


def _encode_apng(pictures: list[Image.Image], showings: list[tuple[int, int]], loop: bool) -> bytes:
    frames = [pictures[index] for index, _ in showings]
    if len(frames) == 1:
        return encode_pil(frames[0], "PNG", {})
    options = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": [duration for _, duration in showings],
        "loop": 0 if loop else 1,
        # Pillow merges only frames of one blend mode. The mode makes no difference to opaque frames, so it alternates.
        "blend": [index % 2 for index in range(len(frames))],
    }
    return encode_pil(frames[0], "PNG", options)
