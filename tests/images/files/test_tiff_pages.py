"""TIFF files whose pages are many, or lead in a circle or out of the file."""

import io
import struct

import pytest
from helpers import photo
from PIL import Image

from edgeae.images.files.reader import Photo
from edgeae.images.files.tiff_pages import MOST_PAGES, count_pages

ENTRIES = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0)]
ENTRIES += [(277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64)]
PAGE = struct.pack("<H", len(ENTRIES)) + b"".join(struct.pack("<HHII", *entry) for entry in ENTRIES)
LENGTH = len(PAGE) + 4


def chain(count: int, last: int = 0) -> bytes:
    """Pages one after the other; `last` is where the last one leads."""
    links = [8 + (i + 1) * LENGTH for i in range(count - 1)] + [last]
    return b"II*\0\x08\0\0\0" + b"".join(PAGE + struct.pack("<I", link) for link in links) + bytes(64)


@pytest.mark.parametrize(
    ("data", "pages"),
    [
        pytest.param(chain(1), 1, id="one"),
        pytest.param(chain(7), 7, id="seven"),
        pytest.param(chain(1, 8), 1, id="a circle of one"),
        pytest.param(chain(5, 8 + LENGTH), 5, id="a circle of five"),
        pytest.param(chain(3, 2**32 - 1), 3, id="out of the file"),
        pytest.param(chain(60_000), MOST_PAGES, id="many"),
    ],
)
def test_pages(data: bytes, pages: int) -> None:
    assert count_pages(io.BytesIO(data)) == pages
    with Photo(data) as picture:
        assert picture.read(8).shape == (8, 8, 1)
        number = "10,000 or more" if pages == MOST_PAGES else pages
        assert picture.note == ("" if pages == 1 else f"it has {number} pages, of which the first is restored")


@pytest.mark.parametrize("big", [False, True])
def test_as_pillow_counts(big: bool) -> None:
    file, pages = io.BytesIO(), [Image.fromarray(photo(9, 9, seed=seed)) for seed in range(4)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], big_tiff=big)
    assert count_pages(file) == 4
