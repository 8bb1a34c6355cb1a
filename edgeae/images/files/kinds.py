"""Say what the files of a folder are by their names: pictures, other pictures, leftovers of systems, and the rest."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from PIL import features

from edgeae.images.files.signatures import RAW_SUFFIXES

# Extensions of pictures that are read; `read_suffixes` adds those that depend on what is installed.
_READ = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif"))
_HEIC = frozenset((".heic", ".heif", ".hif"))
_AVIF = frozenset((".avif",))

# What systems, network drives and photo programs put beside photos: no one means these, or they are thumbnails.
_DROPPINGS = frozenset((
    "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "@tmp", "@sharebin", "@transcode",
    ".@__thumb", "__macosx", "thumbs.db",
    "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information",
    "lost+found", ".ds_store", ".appledouble", ".spotlight-v100", ".fseventsd", ".temporaryitems",
    ".documentrevisions-v100", ".thumbnails", ".thumbs", ".xvpics", ".picasa.ini", "picasa.ini", ".picasaoriginals",
    ".dtrash", ".comments", ".nomedia", ".stfolder", ".stversions", ".sync", ".syncthing", ".dropbox",
    ".dropbox.cache", ".git", ".svn", ".hg", ".ipynb_checkpoints", "__pycache__", "_gsdata_", ".snapshot",
    ".snapshots", ".zfs",
))  # fmt: skip
_DROPPING_STARTS = (
    "._",
    ".trash",
    ".edgeae-",
    "~$",
    ".nfs",
    ".fuse_hidden",
    ".smbdelete",
    ".syncthing.",
    "~syncthing~",
)
_DROPPING_ENDS = (".lrdata", ".photoslibrary.lock")
# Folders of photos that Apple's programs keep, and what is in them beside the photos: smaller copies of each.
_LIBRARIES = (".photoslibrary", ".migratedphotolibrary", ".aplibrary", ".photolibrary")
_LIBRARY_COPIES = frozenset(("resources", "thumbnails", "previews", "database", "private", "scopes", "internal"))

_SAVE = "save it as PNG or JPEG first"
_OTHER_PICTURES = {  # kinds that are not read, and what to do with them
    "raw photo": (" ".join(suffix[1:] for suffix in RAW_SUFFIXES), "develop it first"),
    "HEIC picture": ("heic heif hif heics heifs", "to read it: pip install 'edgeae[heif]'"),
    "AVIF picture": ("avif avifs", "update Pillow to read it, or save it as PNG or JPEG first"),
    "JPEG XL picture": ("jxl", _SAVE),
    "JPEG 2000 picture": ("jp2 j2k j2c jpc jpf jpx jpm jph", _SAVE),
    "JPEG XR picture": ("jxr hdp wdp", _SAVE),
    "JPEG by another name": ("mpo jps jpg_large jpg_orig pjpeg pjp jif jfi jpeg_large insp", "rename it to .jpg"),
    "PNG by another name": ("apng", "rename it to .png"),
    "TIFF by another name": ("btf bigtiff tf8", "rename it to .tif"),
    "picture of an editor": ("psd psb xcf kra ora afphoto clip procreate pdn cpt psp pspimage", _SAVE),
    "picture of another kind": (
        "tga icb vda vst ppm pgm pbm pnm pfm pam exr hdr rgbe pcx dds sgi rgb rgba bw pict pct qoi fits fit fts ras "
        "sun flif bpg pcd jng mng djvu djv dcm",
        _SAVE,
    ),
}
_BY_SUFFIX = {f".{suffix}": kind for kind, (suffixes, _) in _OTHER_PICTURES.items() for suffix in suffixes.split()}
_VIDEO = "mov mp4 m4v avi mkv webm 3gp 3g2 mts m2ts mpg mpeg wmv flv ogv insv lrv lrf mp mod tod vob"
_SIDECAR = "xmp aae json pp3 dop cos cof on1 arp nks spd vrd dr4 exf exif xml lrcat xmpd thm ctg"
_ARCHIVE = "zip rar 7z tar tgz tbz txz gz bz2 xz zst cbz cbr dmg iso"
_TELLING = "txt md csv html htm pdf db ini log npz npy ico"  # extensions that are trusted to hold no picture
_OTHERS = {
    f".{suffix}": reason
    for reason, suffixes in (
        ("video", _VIDEO),
        ("data about a photo", _SIDECAR),
        ("archive; unpack it if it holds photos", _ARCHIVE),
        ("not a picture", _TELLING),
    )
    for suffix in suffixes.split()
}
# What browsers, cameras' programs and copies over a network append until a file is whole, and what programs append to
# the photo that they have changed.
_UNFINISHED = frozenset((
    ".part", ".partial", ".filepart", ".crdownload", ".opdownload", ".download", ".tmp", ".temp", ".!qb", ".!ut",
    ".bc!", ".upload", ".uploading", ".incomplete", ".inprogress",
))  # fmt: skip
_COPY_ENDS = ("_original", "~", ".bak", ".backup", ".orig", ".old")
# What a file without a known extension begins with: (offset, bytes, name of the kind).
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"), (0, b"\x89PNG\r\n\x1a\n", "PNG"), (0, b"GIF8", "GIF"), (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF or raw"), (0, b"MM\0*", "TIFF or raw"), (4, b"ftyphei", "HEIC"), (4, b"ftypmif1", "HEIC"),
    (4, b"ftypavif", "AVIF"), (0, b"8BPS", "Photoshop"), (0, b"\0\0\0\x0cJXL ", "JPEG XL"), (0, b"\xff\x0a", "JPEG XL"),
)  # fmt: skip
_ICLOUD = re.compile(r"\.(.+)\.icloud", re.DOTALL)  # a photo that is in the cloud alone: .IMG_1.HEIC.icloud

HIDDEN = "hidden"
UNFINISHED = "photo that is not copied or downloaded to its end; do so, or rename it if it is whole"


class Reason(NamedTuple):
    """Why a file is left out, and whether it is a photo that somebody will miss."""

    text: str
    missed: bool


@cache
def read_suffixes() -> frozenset[str]:
    """Return the extensions, with their dots, of the pictures that can be read here."""
    suffixes = _READ
    if find_spec("pillow_heif"):
        suffixes |= _HEIC
    if features.check("avif"):
        suffixes |= _AVIF
    return suffixes


def is_dropping(name: str, folder: str = "") -> bool:
    """Return whether a file or folder is what systems leave, with thumbnails at most.

    Args:
        name: its name.
        folder: the name of the folder that it is in.
    """
    folded = name.casefold()
    if folded in _LIBRARY_COPIES and folder.casefold().endswith(_LIBRARIES):
        return True
    return folded in _DROPPINGS or folded.startswith(_DROPPING_STARTS) or folded.endswith(_DROPPING_ENDS)


def why_left_out(path: Path) -> Reason:
    """Say why a file that is not among `read_suffixes` is left out."""
    suffix = path.suffix.lower()
    if match := _ICLOUD.fullmatch(path.name):
        if _is_picture(Path(match[1]).suffix.lower()):
            return Reason("photo that is not on this machine; download it from iCloud first", True)
        return Reason(HIDDEN, False)
    if path.name.startswith("."):
        return Reason(HIDDEN, False)
    if kind := _BY_SUFFIX.get(suffix):
        return Reason(f"{kind}; {_OTHER_PICTURES[kind][1]}", True)
    if suffix in _OTHERS:
        return Reason(_OTHERS[suffix], False)
    for end in _COPY_ENDS:
        photo = path.name.removesuffix(end)
        if photo != path.name and _is_picture(Path(photo).suffix.lower()) and path.with_name(photo).exists():
            return Reason("earlier copy of a photo that lies beside it", False)
    kind = _sniff(path)
    if suffix in _UNFINISHED and (kind or _is_picture(Path(path.stem).suffix.lower())):
        return Reason(UNFINISHED, True)
    if kind:
        return Reason(f"{kind} picture without its extension; rename it", True)
    return Reason("not a picture", False)


def why_broken(path: Path) -> Reason:
    """Say why a link that leads nowhere is left out: as a photo, if its name is one's or could be a folder's."""
    suffix = path.suffix.lower()
    return Reason("link to what is not there; mend it or remove it", not suffix or _is_picture(suffix))


def why_unlisted(error: OSError) -> Reason:
    """Say why a folder is left out that the system does not list."""
    return Reason(f"folder that cannot be listed ({error.strerror}); check its permissions", True)


def _is_picture(suffix: str) -> bool:
    return suffix in read_suffixes() or suffix in _BY_SUFFIX


def _sniff(path: Path) -> str:
    """Return the kind of picture that a file begins as, or an empty text."""
    try:
        if not path.is_file():  # a pipe would block
            return ""
        # A raw descriptor: no buffer of thousands of bytes for 16.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            start = os.read(fd, 16)
        finally:
            os.close(fd)
    except OSError:
        return ""
    return next((kind for at, magic, kind in _SIGNATURES if start[at : at + len(magic)] == magic), "")
