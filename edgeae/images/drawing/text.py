"""Text on pictures: the font, the size of a text, and the characters that the font has."""

import math
import unicodedata

from PIL import Image, ImageDraw, ImageFont


def text_font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that comes with Pillow, the same on every machine."""
    return ImageFont.load_default(size)


def text_size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    """Return width and height in pixels of a text, which may have line breaks."""
    if not text:
        return 0, 0
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font)
    return math.ceil(right - left), math.ceil(bottom - top)


def printable(text: str) -> str:
    """Replace what Pillow's font lacks: accents are dropped, dashes and signs become plain, the rest becomes ?."""
    plain = text.replace("→", "->").translate(str.maketrans("–—−×", "---x"))
    letters = (char for char in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(char))
    return "".join(letters).encode("ascii", "replace").decode()
