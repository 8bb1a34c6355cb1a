"""Count the pages of a TIFF file in a time that is bounded, whatever the file claims.

Format: TIFF 6.0, section 2; BigTIFF.
"""

import struct
from typing import BinaryIO

MOST_PAGES = 10_000


def count_pages(file: BinaryIO) -> int:
    """Return the number of directories that follow each other, at most MOST_PAGES; a circle ends at its first one."""
    start = file.tell()
    try:
        return _count(file)
    except struct.error:  # the chain leads out of the file
        return 1
    finally:
        file.seek(start)


def _count(file: BinaryIO) -> int:
    file.seek(0)
    head = file.read(16)
    order = ">" if head[:2] == b"MM" else "<"
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    count, entry, link = (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
    position = struct.unpack_from(link, head, 8 if big else 4)[0]
    seen: set[int] = set()
    while position and position not in seen and len(seen) < MOST_PAGES and position < 1 << 62:
        file.seek(position)
        try:
            (entries,) = struct.unpack(count, file.read(struct.calcsize(count)))
            file.seek(position + struct.calcsize(count) + entry * min(entries, 1 << 32))
            following = struct.unpack(link, file.read(struct.calcsize(link)))[0]
        except struct.error:  # cut short here: Pillow ends there too
            break
        seen.add(position)
        position = following
    return max(1, len(seen))
