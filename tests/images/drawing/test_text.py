"""Text on pictures: sizes, and characters that the font lacks."""

from edgeae.images.drawing.text import printable, text_font, text_size


def test_printable_text_and_its_size() -> None:
    assert printable("café – 2×2 → 新.png") == "cafe - 2x2 -> ?.png"
    assert text_size("", text_font(15)) == (0, 0)
    assert text_size("a\nb", text_font(15))[1] > text_size("b", text_font(15))[1]
