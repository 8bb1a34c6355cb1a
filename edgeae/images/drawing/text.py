"""Text on pictures: the font, its size, and characters that it has."""

import math
import unicodedata

from PIL import Image, ImageDraw, ImageFont


def text_font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font inside Pillow, the same on every machine."""
    return ImageFont.load_default(size)


def text_size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    """Width and height in pixels of text that may have line breaks."""
    if not text:
        return 0, 0
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font)
    return math.ceil(right - left), math.ceil(bottom - top)


def printable(text: str) -> str:
    """Text in the letters that Pillow's font has: accents are dropped, dashes and signs made plain, the rest is a ?."""
    plain = text.replace("→", "->").translate(str.maketrans("–—−×", "---x"))
    letters = (char for char in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(char))
    return "".join(letters).encode("ascii", "replace").decode()
