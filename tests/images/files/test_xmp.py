"""XMP data claim nothing that is gone, and all else of them stays byte for byte."""

import io
import xml.etree.ElementTree as ET

import pytest
from helpers import photo
from PIL import Image

from edgeae.images.files.reader import Photo
from edgeae.images.files.writer import Writer
from edgeae.images.files.xmp import EXTENSION, clean_xmp, join_extension, split_extension

HEAD = '<?xpacket begin="" id="W5M0"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
RDF = '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
TAIL = '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
KEPT = 'dc:source="the &gt; sea"'


def packet(attributes: str = "", elements: str = "") -> bytes:
    start = f'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" {KEPT}'
    return f"{HEAD}{RDF}{start}{attributes}>{elements}</rdf:Description>{TAIL}".encode()


GOOGLE = "http://ns.google.com/photos/1.0"
ITEMS = (
    "<Container:Directory><rdf:Seq><rdf:li rdf:parseType='Resource'><Container:Item Item:Mime='image/jpeg' "
    "Item:Semantic='Primary'/></rdf:li><rdf:li rdf:parseType='Resource'><Container:Item Item:Mime='video/mp4' "
    "Item:Semantic='MotionPhoto' Item:Length='999'/></rdf:li></rdf:Seq></Container:Directory>"
)
CLAIMS = {
    "hdrgm": (' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0" hdrgm:GainMapMax="2"', ""),
    "hdrgm-elements": (
        ' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"',
        "<hdrgm:GainMapMax><rdf:Seq><rdf:li>2</rdf:li></rdf:Seq></hdrgm:GainMapMax>",
    ),
    "apple-gain-map": (' xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/" HDRGainMap:Version="65536"', ""),
    "container": (f' xmlns:Container="{GOOGLE}/container/" xmlns:Item="{GOOGLE}/container/item/"', ITEMS),
    "motion-photo": (f' xmlns:GCamera="{GOOGLE}/camera/" GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1"', ""),
    "micro-video": (f" xmlns:GCamera='{GOOGLE}/camera/' GCamera:MicroVideo='1' GCamera:MicroVideoOffset='4'", ""),
    "depth": (f' xmlns:GDepth="{GOOGLE}/depthmap/" GDepth:Format="RangeInverse"', "<GDepth:Near>1</GDepth:Near>"),
    "other-prefix": (' xmlns:zz="http://ns.adobe.com/hdr-gain-map/1.0/" zz:Version="1.0"', ""),
    "oppo": (' xmlns:OpCamera="http://ns.oplus.com/photos/1.0/camera/" OpCamera:MotionPhotoOwner="x"', ""),
    "xiaomi": (' xmlns:MiCamera="http://ns.xiaomi.com/photos/1.0/camera/" MiCamera:XMPMeta="x"', ""),
    "extended": (' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="ABC"', ""),
    "content-credentials": (' xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="self#jumbf=c2pa"', ""),
    "undeclared": (' GCamera:MotionPhoto="1"', ""),
}
WORDS = (b"hdrgm", b"hdr-gain", b"HDRGainMap", b"Container", b"GCamera", b"Micro", b"Motion", b"GDepth", b"OpCamera")
WORDS += (b"MiCamera", b"HasExtended", b"self#", b"zz:")


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_go_and_the_rest_stays(name: str) -> None:
    cleaned, _ = clean_xmp(packet(*CLAIMS[name]))
    assert not any(word in cleaned for word in WORDS)
    assert KEPT.encode() in cleaned
    if name != "content-credentials":
        assert cleaned == packet()
    if name != "undeclared":
        ET.fromstring(cleaned.decode())


def test_everything_at_once() -> None:
    twice = ("undeclared", "hdrgm-elements", "micro-video")
    attributes = "".join(attributes for name, (attributes, _) in CLAIMS.items() if name not in twice)
    elements = "".join(elements for _, elements in CLAIMS.values())
    cleaned, lost = clean_xmp(packet(attributes, elements))
    assert not any(word in cleaned for word in WORDS)
    assert {"gain map", "motion video", "depth map", "content credentials"} <= set(lost)
    ET.fromstring(cleaned.decode())


@pytest.mark.parametrize(
    "xmp",
    [
        packet(' xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:Exposure2012="+0.5"'),
        packet(f' xmlns:GPano="{GOOGLE}/panorama/" GPano:ProjectionType="equirectangular"'),
        packet(' xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="https://example.org/a"'),
        packet(elements="<!-- MotionPhoto --><dc:title><![CDATA[ < hdrgm ]]></dc:title>"),
        packet(' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:Credit="Anna"'),
        b"\xef\xbb\xbf" + packet(),
        packet() + b" " * 2000,
        b"<no xml",
        b"",
    ],
    ids=["edits", "panorama", "provenance-url", "comment", "photoshop", "bom", "padding", "broken", "empty"],
)
def test_what_stays_stays_byte_for_byte(xmp: bytes) -> None:
    assert clean_xmp(xmp) == (xmp, [])


@pytest.mark.parametrize(
    "xmp",
    [
        packet(*CLAIMS["hdrgm"])[:-30],
        b'<!DOCTYPE a [<!ENTITY b "x">]>' + packet(*CLAIMS["hdrgm"]),
        packet(*CLAIMS["motion-photo"]).replace(b"the &gt;", b"the \xff"),
    ],
    ids=["cut", "entities", "no-utf-8"],
)
def test_broken_data_that_claim_something_go_as_a_whole(xmp: bytes) -> None:
    assert clean_xmp(xmp) == (b"", ["broken XMP data"])


def test_utf_16() -> None:
    cleaned, lost = clean_xmp(packet(*CLAIMS["hdrgm"]).decode().encode("utf-16"))
    assert lost == ["gain map"] and KEPT.encode() in cleaned and b"hdrgm" not in cleaned


# ---- extended documents ----------------------------------------------------------------------------------------------


def segment(data: bytes) -> bytes:
    return b"\xff\xe1" + (len(data) + 2).to_bytes(2, "big") + data


def jpeg(document: bytes) -> bytes:
    digits, segments = split_extension(document)
    main = packet(f' xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="{digits.decode()}"')
    out = io.BytesIO()
    Image.fromarray(photo()).save(out, "JPEG", xmp=main, extra=b"".join(map(segment, segments)))
    return out.getvalue()


def written(data: bytes, kind: str) -> bytes:
    out = io.BytesIO()
    with Photo(data, "photo") as opened:
        writer = Writer(out, kind, opened, opened.mode)
        writer.write(opened.read(opened.height))
        writer.close()
    return out.getvalue()


def extension_of(data: bytes) -> bytes:
    image = Image.open(io.BytesIO(data))
    return join_extension([part for name, part in image.applist if name == "APP1" and part.startswith(EXTENSION)])


def test_a_long_document_stays_in_a_jpeg() -> None:
    document = packet(elements=f"<dc:rights>{'words ' * 30_000}</dc:rights>")
    data = jpeg(document)
    result = written(data, "JPEG")
    assert extension_of(result) == document
    assert Image.open(io.BytesIO(result)).info["xmp"] == Image.open(io.BytesIO(data)).info["xmp"]
    for kind in ("PNG", "WEBP", "TIFF"):
        xmp = Image.open(io.BytesIO(written(data, kind))).info["xmp"]
        assert b"HasExtendedXMP" not in xmp and KEPT.encode() in xmp


def test_a_long_document_is_cleaned_and_named_anew() -> None:
    depth = f' xmlns:GDepth="{GOOGLE}/depthmap/" GDepth:Data="{"x" * 100_000}"'
    result = written(jpeg(packet(depth, f"<dc:rights>{'words ' * 30_000}</dc:rights>")), "JPEG")
    document = extension_of(result)
    assert b"GDepth" not in document and b"words" in document
    digits, _ = split_extension(document)
    assert digits in Image.open(io.BytesIO(result)).info["xmp"]
