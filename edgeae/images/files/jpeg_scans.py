"""Count the scans of a JPEG file: each goes through the whole picture, so that thousands would take minutes.

Format: ITU-T T.81, annex B.
"""

import re
from typing import BinaryIO

from edgeae.errors import ImageError

MOST_SCANS = 100  # encoders write about 10; one for each coefficient of each channel, without refinement, is 192
_BLOCK_BYTES = 1 << 20
_START_OF_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # neither a stuffed zero nor a restart nor padding


def check_scans(file: BinaryIO) -> None:
    """Raise ImageError if a JPEG file has more scans than any encoder writes. The text continues after its name."""
    start = file.tell()
    try:
        if _count_starts(file) > MOST_SCANS and _count_scans(file) > MOST_SCANS:
            raise ImageError(f"has more than {MOST_SCANS} scans, as no camera or program writes: save it again.")
    finally:
        file.seek(start)


def _count_starts(file: BinaryIO) -> int:
    """Return how often the marker of a scan occurs, in thumbnails and other data too: fast, and enough for most."""
    file.seek(0)
    count, last = 0, b""
    while block := file.read(_BLOCK_BYTES):
        count += (last + block).count(_START_OF_SCAN)
        last = block[-1:]
    return count


def _count_scans(file: BinaryIO) -> int:
    """Return the number of scans of the first picture, or MOST_SCANS + 1 if it has more."""
    file.seek(0)
    data = file.read()
    count, at = 0, 2
    while count <= MOST_SCANS and (marker := _MARKER.search(data, at)):
        if marker[1] == b"\xd9":  # the end of the picture
            break
        count += marker[1] == b"\xda"
        at = marker.end()
        if marker[1] not in b"\x01\xd8":  # all others have a length
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return count
