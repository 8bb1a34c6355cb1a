"""What a result does with its photo's file: the date, what would be lost, and what the note says."""

import io
import os
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import photo
from PIL import Image

from edgeae.config import ModelConfig
from edgeae.errors import ImageError
from edgeae.inference.photo import Options, restore

SESSION = SimpleNamespace(config=ModelConfig("conv", size=16, widths=(8, 16), code=4, context=1), metadata={})
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" %s/></rdf:RDF></x:xmpmeta>'
)
HDRGM = XMP % b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
MOTION = XMP % b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"'


def through(source: Path | bytes, target: Path, **options: object) -> str:
    return restore(source, target, SESSION, Options(**options), name=None, network=lambda piece: piece).note


def jpeg(**options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(photo()).save(out, "JPEG", **options)
    return out.getvalue()


def test_the_date_of_the_photo(tmp_path: Path) -> None:
    source = tmp_path / "photo.jpg"
    source.write_bytes(jpeg())
    date = 1_000_000_000_123_456_789
    os.utime(source, ns=(date, date))
    for name in ("a.jpg", "a.png", "new/a.tif"):
        through(source, tmp_path / name, keep_date=True)
        assert (tmp_path / name).stat().st_mtime_ns == date
        through(source, tmp_path / name)
        assert (tmp_path / name).stat().st_mtime_ns > date
    through(source, source, keep_date=True)
    assert source.stat().st_mtime_ns == date
    through(jpeg(), tmp_path / "of-bytes.jpg", keep_date=True)  # which have no date


def second(**options: object) -> bytes:
    out = io.BytesIO()
    picture = Image.fromarray(photo())
    picture.save(out, "MPO", save_all=True, append_images=[picture.resize((9, 6))], **options)
    return out.getvalue()


MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(500)
BESIDE = {
    "gain-map": (second(xmp=HDRGM), "without its gain map"),
    "second-picture": (second(), "without its second picture"),
    "motion-photo": (jpeg(xmp=MOTION) + MP4, "without its motion video"),
    "micro-video-without-claim": (jpeg() + MP4, "without its motion video"),
    "samsung": (
        jpeg() + b"\0\0\x01\x0aImage_UTC_Data" + bytes(range(99)) + b"SEFT",
        "without its data after the picture's end",
    ),
    "progressive-and-video": (jpeg(progressive=True) + MP4, "without its motion video"),
    "restarts-and-picture": (jpeg(restart_marker_rows=1) + jpeg(), "without its second picture"),
    "iso-gain-map": (
        jpeg(extra=b"\xff\xe2\0\x22urn:iso:std:iso:ts:21496:-1\0" + bytes(4)) + jpeg(),
        "without its gain map",
    ),
    "padding": (jpeg() + bytes(5000), ""),
    "line-break": (jpeg() + b"\r\n", ""),
    "nothing": (jpeg(), ""),
    "claim-alone": (jpeg(xmp=HDRGM), "without its gain map"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_lies_beside_the_picture_is_named(name: str, tmp_path: Path) -> None:
    data, note = BESIDE[name]
    source = tmp_path / "photo.jpg"
    source.write_bytes(data)
    for target in ("out.jpg", "out.png"):
        assert through(source, tmp_path / target) == note
        result = (tmp_path / target).read_bytes()
        assert not any(word in result for word in (b"hdrgm", b"MotionPhoto", b"ftyp", b"MPF\0", b"21496"))


@pytest.mark.parametrize(
    ("target", "note"),
    [
        ("out.bmp", "BMP files hold no EXIF data, XMP data and captions (IPTC)"),
        ("out.gif", "GIF files hold no EXIF data, XMP data and captions (IPTC)"),
        ("out.webp", "WEBP files hold no captions (IPTC)"),
        ("out.png", ""),
        ("out.tif", ""),
    ],
)
def test_what_a_format_cannot_hold_is_named(target: str, note: str, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[271] = "Edge"
    captions = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02x\0\x03sea"
    extra = b"\xff\xed" + struct.pack(">H", len(captions) + 2) + captions
    source = tmp_path / "photo.jpg"
    source.write_bytes(jpeg(exif=tags, xmp=XMP % b'dc:a="b"', extra=extra))
    assert through(source, tmp_path / target) == note


@pytest.mark.parametrize(
    ("mode", "target", "note"),
    [
        ("RGBA", "out.jpg", "JPEG files hold no transparency"),
        ("RGBA", "out.bmp", ""),
        ("I;16", "out.jpg", "8 bits a channel are kept"),
        ("I;16", "out.tif", ""),
        ("RGBA", "out.webp", ""),
    ],
)
def test_transparency_and_depth_are_told(mode: str, target: str, note: str, tmp_path: Path) -> None:
    source = tmp_path / "photo.png"
    picture = (
        Image.fromarray(photo(channels=4))
        if mode == "RGBA"
        else Image.fromarray(photo(channels=1)[..., 0] * np.uint16(257))
    )
    picture.save(source)
    assert through(source, tmp_path / target) == note


def test_a_photo_that_cannot_be_kept_whole_is_refused(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    source = tmp_path / "scan.tif"
    with tifffile.TiffWriter(source, byteorder=">") as writer:
        for seed in range(2):
            writer.write(photo(seed=seed).astype(np.uint16) * 257, photometric="rgb", metadata=None)
    with pytest.raises(ImageError, match=r"scan.tif cannot be kept whole: .*`allow_loss`"):
        through(source, tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()
    assert "only the first is kept" in through(source, tmp_path / "out.tif", allow_loss=True)
    assert "only the first is kept" in through(source, tmp_path / "out.png")
