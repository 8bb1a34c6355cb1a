"""EXIF data for tests."""

from PIL import ExifTags, Image


def long_exif(notes: int, comment: int, turn: int) -> Image.Exif:
    """EXIF data as of a TIFF file, with camera notes and a comment of these lengths in bytes."""
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "Edge"
    tags[ExifTags.Base.Orientation] = turn
    tags.get_ifd(ExifTags.IFD.Exif).update(
        {
            ExifTags.Base.MakerNote: bytes(notes),
            ExifTags.Base.ISOSpeedRatings: 100,
            ExifTags.Base.UserComment: bytes(comment),
        }
    )
    again = Image.Exif()
    again.load(tags.tobytes())
    return again
