"""Disks that are full or read-only, odd names, links, permissions, pipes, raw frames, and a broken environment."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import faults, photo
from helpers.faults import Case, Nursery, check, child, judge, sentence, table
from helpers.tiers import ALL, exhaustive
from PIL import Image

from edgeae.cli.main import main
from edgeae.network import weight_file as weights

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files and permissions")

TINY = "--size 16 --widths 4 --code 4 --batch 4 --epochs 1"


@pytest.fixture
def shelf(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its networks are loaded once for all tests."""
    monkeypatch.setattr("edgeae.inference.load.load", faults.sharing(shelf))
    return shelf


def mask(height: int, width: int) -> Image.Image:
    """A mask with a square."""
    drawn = Image.new("L", (width, height))
    drawn.paste(255, (10, 10, 20, 20))
    return drawn


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what the commands read: two small pictures, a large one of noise, its mask, some more, data."""
    place = tmp_path_factory.mktemp("inputs")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (130, 130, 3), np.uint8))
    for kind in ("png", "jpg", "webp", "tif", "gif", "bmp"):
        noise.save(place / f"large.{kind}")
    mask(130, 130).save(place / "mask.png")
    for seed, name in enumerate(("a.png", "b.png")):
        Image.fromarray(photo(20, 24, seed=seed)).save(place / name)
    (place / "folder").mkdir()
    for i in range(6):
        Image.fromarray(photo(60, 80, seed=i)).save(place / "folder" / f"{i}.png")
    np.savez(place / "photos.npz", images=np.stack([photo(16, 16, seed=seed) for seed in range(4)]))
    (place / "frames.rgb").write_bytes(np.random.default_rng(0).bytes(30 * 64 * 64 * 3))
    return place


@pytest.fixture(autouse=True)
def working_folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inputs as links to files, in a folder of the test's own."""
    work = tmp_path / "work"
    shutil.copytree(inputs, work, copy_function=os.link)
    monkeypatch.chdir(work)
    monkeypatch.delenv("EDGEAE_DEVICE", raising=False)


# ---- disks -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(options: str) -> Iterator[Path]:
    """A small disk, `disk` in the working folder."""
    disk = Path("disk")
    disk.mkdir()
    done = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, text=True)
        if shutil.which("mount")
        else None
    )
    if done is None or done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip() if done else 'there is no mount'}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


OUTPUTS = [
    *(
        Case(f"run {kind}", f"run large.{kind} -m faces-conv -o disk/old.{kind}")
        for kind in ("png", "jpg", "webp", "tif", "gif", "bmp")
    ),
    Case("run folder", "run folder -m faces-conv -o disk/out", leaves=True),
    Case("run folder as JSON", "run folder -m faces-conv -o disk/out --json", leaves=True),
    Case("run several", "run folder/0.png large.png folder/1.png large.tif -m faces-conv -o disk/out", leaves=True),
    Case("run compare", "run folder/0.png -m faces-conv --compare -o disk/old.png", leaves=True),
    Case("run frames", "run --raw 64x64 frames.rgb -m faces-conv -o disk/out", leaves=True),
    Case("run samples", "run -m faces-conv -o disk/out", leaves=True),
    Case("run masked", "run large.png --mask mask.png -m faces-conv -o disk/old.png"),
    Case("run vae", "run folder -m faces-vae -o disk/out", leaves=True),
    Case("train", f"train conv --data photos.npz {TINY} -o disk/out", leaves=True),
    Case("export", "export SHELF/faces-conv.safetensors --data photos.npz -o disk/old.safetensors"),
    Case(
        "export fp16", "export SHELF/faces-conv.safetensors --quantize fp16 --data photos.npz -o disk/old.safetensors"
    ),
    Case("sample", "sample -n 900 -o disk/old.png"),
    *(
        Case(f"interpolate {kind}", f"interpolate a.png b.png --steps 40 -o disk/old.{kind}")
        for kind in ("gif", "webp", "png")
    ),
    Case("interpolate strip", "interpolate a.png b.png --steps 900 --strip -o disk/old.png"),
    Case("interpolate folder", "interpolate a.png b.png --steps 40 -o disk/out", leaves=True),
    *(
        Case(f"corrupt {kind}", f"corrupt large.{kind} --corrupt noise -o disk/old.{kind}")
        for kind in ("png", "jpg", "webp", "tif", "gif", "bmp")
    ),
]
OLD = ("png", "jpg", "webp", "tif", "gif", "bmp", "safetensors")


def old_files(disk: Path) -> faults.Files:
    """Small good files under the names that the commands want to write."""
    for kind in OLD:
        (disk / f"old.{kind}").write_bytes(b"old")
    return {f"disk/old.{kind}": b"old" for kind in OLD}


def check_disk(case: Case, shelf: Path, says: str, old: faults.Files) -> None:
    """The sentence, the exit code, the old files, and that what is new is whole."""
    before = faults.files()
    line = case.line.replace("SHELF", str(shelf)).split()  # type: ignore[union-attr]
    result = CliRunner().invoke(main, line)
    changed = {name for name, data in old.items() if Path(name).read_bytes() != data}
    assert not changed or case.name == "run compare", changed
    judge(Case(case.name, line, says, leaves=case.leaves), result.exit_code, result.stderr, result.stdout, before)


# A disk fails in the one function that writes files: each command once, and the formats that are written in strips.
FEW_OUTPUTS = ("run png", "run tif", "run folder", "run frames", "run samples", "train", "export", "sample")
FEW_OUTPUTS += ("interpolate gif", "interpolate folder", "corrupt jpg")


@table(OUTPUTS, short=lambda case: case.name in FEW_OUTPUTS)
def test_a_full_disk(case: Case, shelf: Path) -> None:
    with mounted("size=64k") as disk:
        old = old_files(disk)
        with (disk / "filler").open("wb") as file, contextlib.suppress(OSError):
            file.write(bytes(16384 if case.leaves and case.name != "run compare" else 32768))
        if case.name != "run compare":
            check_disk(case, shelf, "the disk is full", old)
            return
        (disk / "filler").unlink()  # room for the picture, but not for the comparison
        check_disk(case, shelf, "the disk is full", old)


@table(OUTPUTS, short=lambda case: case.name in FEW_OUTPUTS[::3])
def test_a_read_only_disk(case: Case, shelf: Path) -> None:
    with mounted("size=1m") as disk:
        old = old_files(disk)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        check_disk(case, shelf, "read-only" if case.name != "train" else "cannot be written", old)


@table([case for case in OUTPUTS if "folder" in case.name or case.name in ("train", "run frames", "corrupt png")])
def test_a_disk_without_room_for_names(case: Case, shelf: Path) -> None:
    with mounted("size=4m,nr_inodes=9") as disk:  # the old files and the folder take all but one
        old = old_files(disk)
        if not case.leaves:
            (disk / "filler").touch()
        check_disk(case, shelf, "disk is full" if case.name != "train" else "", old)


# ---- outputs that cannot be --------------------------------------------------------------------------------------


def folder_named(name: str) -> None:
    """A folder under a file's name."""
    Path(name).mkdir(parents=True)


WHERE = [
    *(
        Case(
            f"{name} below a file",
            line.replace("OUT", f"a.png/x/y{suffix}"),
            "6 of 6" if name == "run folder" else "cannot be written",
        )
        for name, line, suffix in (
            ("run", "run b.png -m faces-conv -o OUT", ".png"),
            ("run folder", "run folder -m faces-conv -o OUT", ""),
            ("run frames", "run --raw 64x64 frames.rgb -m faces-conv -o OUT", ""),
            ("run samples", "run -o OUT", ""),
            ("train", f"train conv --data photos.npz {TINY} -o OUT", ""),
            ("sample", "sample -o OUT", ".png"),
            ("export", "export SHELF/faces-conv.safetensors --data photos.npz -o OUT", ".safetensors"),
            ("interpolate", "interpolate b.png b.png -o OUT", ".gif"),
            ("interpolate folder", "interpolate b.png b.png -o OUT", ""),
            ("corrupt", "corrupt b.png --corrupt blur -o OUT", ".png"),
        )
    ),
    *(
        Case(f"{name} into a folder of that name", line, "a folder", make=partial(folder_named, made))
        for name, line, made in (
            ("sample", "sample -o x.png", "x.png"),
            ("corrupt", "corrupt b.png --corrupt blur -o x.png", "x.png"),
            ("export", "export SHELF/faces-conv.safetensors --data photos.npz -o x.safetensors", "x.safetensors"),
            ("strip", "interpolate a.png b.png --strip -o x.png", "x.png"),
            ("run", "run a.png -m faces-conv", "a.out.png"),
        )
    ),
    Case("run folder onto itself", "run folder -m faces-conv -o folder", "would be overwritten", 2),
    Case("run folder onto itself by a detour", "run folder -m faces-conv -o ./folder/../folder", "overwritten", 2),
    Case(
        "run folder onto itself through a link",
        "run folder -m faces-conv -o link",
        "would be overwritten",
        2,
        lambda: Path("link").symlink_to("folder"),
    ),
    Case("run onto itself in its folder", "run a.png -m faces-conv -o .", "would be overwritten", 2),
    Case("run several onto themselves", "run a.png b.png -m faces-conv -o .", "would be overwritten", 2),
    Case("run several onto themselves by a detour", "run a.png b.png -m faces-conv -o ./folder/..", "overwritten", 2),
    Case("run one photo twice", "run a.png folder/../a.png ./b.png -m faces-conv -o out", "2 restored", 0),
    Case("run two of a name", "run folder/0.png other/0.png -m faces-conv -o out", "restore them one by one", 2),
    Case(
        "run folder onto its files by links",
        "run folder -m faces-conv -o out --overwrite",
        "overwritten",
        2,
        lambda: (Path("out").mkdir(), Path("out/0.png").symlink_to("../folder/0.png")),
    ),
    Case(
        "run into a loop of links",
        "run a.png -m faces-conv -o loop/x.png",
        "cannot be written",
        make=lambda: Path("loop").symlink_to("loop"),
    ),
    Case(
        "run a loop of links",
        "run loop.png -m faces-conv -o x.png",
        "loop.png",
        make=lambda: Path("loop.png").symlink_to("loop.png"),
    ),
    Case(
        "run a dangling link",
        "run gone.png -m faces-conv -o x.png",
        "does not exist",
        make=lambda: Path("gone.png").symlink_to("nothing"),
    ),
    Case(
        "corrupt a loop of links",
        "corrupt loop.png --corrupt blur -o x.png",
        "loop.png",
        make=lambda: Path("loop.png").symlink_to("loop.png"),
    ),
    Case(
        "info a loop of links",
        "info ./loop.safetensors",
        "loop.safetensors",
        make=lambda: Path("loop.safetensors").symlink_to("loop.safetensors"),
    ),
    Case(
        "train on a loop of links",
        f"train conv --data loop {TINY} -o run",
        "loop",
        make=lambda: Path("loop").symlink_to("loop"),
    ),
    Case(
        "run a folder of loops",
        "run loops -m faces-conv -o out",
        "",
        0,
        lambda: (
            shutil.copytree("folder", "loops"),
            Path("loops/again").symlink_to("."),
            Path("loops/up").symlink_to("../loops"),
        ),
    ),
    Case(
        "evaluate a folder of loops",
        "evaluate faces-conv --data loops",
        "",
        0,
        lambda: (shutil.copytree("folder", "loops"), Path("loops/again").symlink_to(".")),
    ),
    Case(
        "run a folder of dangling links",
        "run links -m faces-conv -o out",
        "links/gone.png is left out",
        make=lambda: (Path("links").mkdir(), Path("links/gone.png").symlink_to("nothing")),
    ),
    Case(
        "run a folder named as a picture",
        "run x.jpg -m faces-conv -o out",
        "holds no images",
        make=partial(folder_named, "x.jpg"),
    ),
    Case(
        "corrupt a folder named as a picture",
        "corrupt x.jpg --corrupt blur -o y.jpg",
        "is a folder",
        make=partial(folder_named, "x.jpg"),
    ),
    Case(
        "interpolate a folder named as a picture",
        "interpolate a.png x.jpg -o y.gif",
        "is a folder",
        make=partial(folder_named, "x.jpg"),
    ),
    Case(
        "mask is an empty folder",
        "run a.png -m faces-conv --mask x.jpg -o y.png",
        "has no mask",
        make=partial(folder_named, "x.jpg"),
    ),
    Case("model is a folder", "verify ./folder", "is a folder"),
    Case("model is a device", "verify /dev/zero", "is not a regular file"),
    Case("checkpoint is an empty folder", "export folder -o x.safetensors", "no such weight file"),
    Case("run a device", "run /dev/zero -m faces-conv -o x.png", "/dev/zero"),
    Case("run nothing", "run /dev/null -m faces-conv -o x.png", "/dev/null"),
    Case("run an empty folder", "run empty -m faces-conv", "holds no images", make=partial(folder_named, "empty")),
    Case("run a pattern of nothing", "run *.jpeg -m faces-conv", "matches no file"),
    Case(
        "train on an empty folder",
        f"train conv --data empty {TINY} -o run",
        "0 usable images",
        make=partial(folder_named, "empty"),
    ),
    Case("resume nothing", "train --resume folder", "holds no run"),
    Case(
        "resume garbage",
        "train --resume run",
        "is damaged",
        make=lambda: (Path("run").mkdir(), Path("run/config.json").write_text("{")),
    ),
    Case(
        "resume another",
        "train --resume run",
        "",
        make=lambda: (Path("run").mkdir(), Path("run/config.json").write_text('{"model": {}, "train": {}}')),
    ),
    Case("mask of another size", "run large.png -m faces-conv --mask a.png -o x.png", "make the mask as large"),
    Case("mask is no image", "run a.png -m faces-conv --mask photos.npz -o x.png", "photos.npz"),
    Case(
        "masks for some",
        "run folder -m faces-conv --mask masks -o out",
        "5 of 6 images could not be restored",
        code=3,
        make=lambda: (Path("masks").mkdir(), mask(60, 80).save("masks/0.png")),
        leaves=True,
    ),
]


@table(WHERE)
def test_places(case: Case, shelf: Path) -> None:
    check(case, shelf)


@pytest.mark.parametrize("target", ["a.png", "./folder/../a.png", "link.png"])
@pytest.mark.parametrize("line", ["run a.png -m faces-conv -o", "corrupt a.png --corrupt occlude -o"])
def test_a_picture_onto_itself(line: str, target: str, shelf: Path) -> None:
    """It is refused, however it is spelled, as it is for folders."""
    Path("link.png").symlink_to("a.png")
    before = Path("a.png").read_bytes()
    result = CliRunner().invoke(main, [*line.split(), target])
    assert result.exit_code == 2 and "a.png would be overwritten" in result.stderr
    assert Path("a.png").read_bytes() == before and Path("link.png").is_symlink()


# ---- names -------------------------------------------------------------------------------------------------------

NAMES = {
    "newline": "two\nlines",
    "return": "two\rlines",
    "tab": "a\tb",
    "bytes": os.fsdecode(b"\xff\xfe"),
    "dash": "-o",
    "dashes": "--help",
    "quote": "'\"`$(touch x)`",
    "percent": "%s%n{0}",
    "pattern": "[a]*?",
    "spaces": "  ",
    "escape": "\x1b[31mred\x1b]0;title\x07",
    "right-to-left": "\u202egnp",
    "long": "x" * 240,
    "backslash": "a\\b",
}
BY_NAME = {
    "run": ["run", "-m", "faces-conv", "-o", "out", "--", "NAME"],
    "corrupt": ["corrupt", "--corrupt", "blur", "-o", "out.png", "--", "NAME"],
    "interpolate": ["interpolate", "-o", "out.gif", "--steps", "2", "--", "a.png", "NAME"],
    "evaluate": ["evaluate", "faces-conv", "--data", "photos"],
}


@pytest.mark.parametrize("use", BY_NAME)
@pytest.mark.parametrize("kind", NAMES)
def test_names(kind: str, use: str, shelf: Path) -> None:
    """A picture of any name is used, and one that is not there is told of in one printable line."""
    name = f"{NAMES[kind]}.png"
    path = Path("photos", name) if use == "evaluate" else Path(name)
    path.parent.mkdir(exist_ok=True)
    line = [name if word == "NAME" else word for word in BY_NAME[use]]
    try:
        shutil.copy("a.png", path)
    except OSError:
        pytest.skip("this file system has no such names")
    check(Case(kind, line, code=0), shelf)
    path.write_bytes(b"broken")
    shutil.rmtree("out", ignore_errors=True)
    check(Case(kind, line, "is not an image"), shelf)


@table(
    [
        Case("run", ["run", "x" * 251 + ".png", "-m", "faces-conv"], "its name is too long"),
        Case(
            "run to a longer name",
            ["run", "a.png", "-m", "faces-conv", "-o", "x" * 252 + ".png"],
            "its name is too long",
        ),
        Case("run a longer name", ["run", "x" * 300 + ".png", "-m", "faces-conv"], "x.png"),
        Case("corrupt", ["corrupt", "a.png", "--corrupt", "blur", "-o", "x" * 252 + ".png"], "its name is too long"),
        Case("sample", ["sample", "-o", "x" * 252 + ".png"], "its name is too long"),
        Case("interpolate", ["interpolate", "a.png", "b.png", "-o", "x" * 252 + ".gif"], "its name is too long"),
        Case(
            "export",
            ["export", "SHELF/faces-conv.safetensors", "--data", "photos.npz", "-o", "x" * 252 + ".safetensors"],
            "its name is too long",
        ),
        Case("train", ["train", "conv", "--data", "photos.npz", *TINY.split(), "-o", "x" * 300], "too long"),
        Case("info", ["info", "x" * 300 + ".safetensors"], "x"),
        Case("evaluate", ["evaluate", "faces-conv", "--data", "x" * 300], "x"),
        Case(
            "a path of a thousand folders",
            ["run", "a.png", "-m", "faces-conv", "-o", "x/" * 5000 + "a.png"],
            "too long",
        ),
    ]
)
def test_names_that_are_too_long(case: Case, shelf: Path) -> None:
    shutil.copy("a.png", "x" * 251 + ".png")
    check(case, shelf)


def test_a_name_of_255_bytes(shelf: Path) -> None:
    name = "x" * 251 + ".png"
    shutil.copy("a.png", name)
    check(Case("run", ["run", name, "-m", "faces-conv", "-o", "out"], code=0), shelf)
    assert Path("out", name).is_file()


# ---- raw frames and standard streams -----------------------------------------------------------------------------

RAW = "run --raw 8x8 -m faces-conv"


@table(
    [
        Case(
            "cut frame", f"{RAW} - -o out", "ends within a frame, 1 of 192 bytes after 2", stdin=bytes(385), leaves=True
        ),
        Case("cut first frame", f"{RAW} - -o out", "ends within a frame", stdin=bytes(191)),
        Case("size lies", "run --raw 9x9 -m faces-conv - -o out", "check that --raw", stdin=bytes(192)),
        Case("huge size", "run --raw 16384x16384 -m faces-conv - -o out", "give a --max-mem of", 2, stdin=bytes(192)),
        Case("no frames", "run --raw 8x8 -m faces-conv - -o out", "Standard input holds no frames"),
        Case("frames of a missing file", f"{RAW} gone.rgb -o out", "does not exist"),
        Case("frames of a folder", f"{RAW} folder -o out", "is a folder"),
        Case("frames below a file", f"{RAW} frames.rgb -o a.png/x", "cannot be written"),
        Case("frames through a grey size", "run --raw 8x8 -m faces-vae - -o out", code=0, stdin=bytes(192)),
        Case("empty stdin", "run - -m faces-conv -o x.png", "Standard input is empty"),
        Case("text on stdin", "run - -m faces-conv -o x.png", "Standard input is not an image", stdin=b"hello\n"),
        Case("cut picture on stdin", "run - -m faces-conv -o x.png", "Standard input", stdin=b"\x89PNG\r\n\x1a\n"),
        Case("broken picture to stdout", "run photos.npz -m faces-conv -o -", "photos.npz is not an image"),
        Case("missing picture to stdout", "run gone.png -m faces-conv -o -", "does not exist"),
    ]
)
def test_streams(case: Case, shelf: Path) -> None:
    check(case, shelf)


# ---- children: permissions, pipes, the environment ---------------------------------------------------------------

ROOT_USER = hasattr(os, "geteuid") and os.geteuid() == 0
# Root may read everything; without these rights it may not.
POWERLESS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"] if ROOT_USER else []


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Where children without root's rights come from."""
    if POWERLESS and subprocess.run([*POWERLESS, "true"], capture_output=True).returncode:
        pytest.skip("root's rights cannot be given up here")
    made = Nursery(tmp_path_factory.mktemp("scratch"), POWERLESS)
    yield made
    made.close()


def locked(name: str, mode: int = 0) -> None:
    """Take away the permissions of a file or folder, whose bytes may be shared with the other tests'."""
    path = Path(name)
    if path.is_file():
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    path.chmod(mode)


PERMISSIONS = [
    Case("run", "run a.png -m M -o x.png", "cannot be opened", make=partial(locked, "a.png")),
    Case("corrupt", "corrupt a.png --corrupt blur -o x.png", "cannot be opened", make=partial(locked, "a.png")),
    Case("interpolate", "interpolate a.png b.png -o x.gif", "cannot be opened", make=partial(locked, "b.png")),
    Case("mask", "run a.png --mask b.png -m M -o x.png", "cannot be opened", make=partial(locked, "b.png")),
    Case("frames", "run frames.rgb --raw 64x64 -m M -o out", "cannot be opened", make=partial(locked, "frames.rgb")),
    Case("data", "evaluate M --data photos.npz", "cannot be read", make=partial(locked, "photos.npz")),
    Case("folder of data", "evaluate M --data folder", "folder", make=partial(locked, "folder")),
    Case("folder to train on", f"train conv --data folder {TINY} -o out", "folder", make=partial(locked, "folder")),
    Case("folder", "run folder -m M -o out", "left out", make=partial(locked, "folder")),
    Case("a file in the folder", "run folder -m M -o out", "1 of 6", 3, partial(locked, "folder/2.png"), leaves=True),
    Case(
        "model",
        "run a.png -m ./m.safetensors -o x.png",
        "cannot be read",
        make=lambda: (Path("m.safetensors").touch(), locked("m.safetensors")),
    ),
    Case(
        "model for info",
        "info ./m.safetensors",
        "cannot be read",
        make=lambda: (Path("m.safetensors").touch(), locked("m.safetensors")),
    ),
    *(
        Case(f"{name} into a locked folder", line, "", make=lambda: (Path("locked").mkdir(), locked("locked", 0o555)))
        for name, line in (
            ("run", "run a.png -m M -o locked/x.png"),
            ("run folder", "run folder -m M -o locked"),
            ("run folder below", "run folder -m M -o locked/out"),
            ("corrupt", "corrupt a.png --corrupt blur -o locked/x.png"),
            ("sample", "sample -m VAE -o locked/x.png"),
            ("train", f"train conv --data photos.npz {TINY} -o locked/out"),
            ("train in it", f"train conv --data photos.npz {TINY} -o locked"),
            ("export", "export M --data photos.npz -o locked/x.safetensors"),
            ("interpolate", "interpolate a.png b.png -m VAE -o locked/x.gif"),
        )
    ),
    Case(
        "run beside a picture in a locked folder",
        "run folder/0.png -m M",
        "permission is denied",
        make=partial(locked, "folder", 0o555),
    ),
]


FEW_PERMISSIONS = ("run", "mask", "folder of data", "folder", "a file in the folder", "model")
FEW_PERMISSIONS += ("run into a locked folder", "train into a locked folder", "run beside a picture in a locked folder")


@table(PERMISSIONS, short=lambda case: case.name in FEW_PERMISSIONS)
def test_permissions(case: Case, models: Path, nursery: Nursery) -> None:
    case.make()
    before = faults.files()
    words = {"M": models / "faces-conv.safetensors", "VAE": models / "faces-vae.safetensors"}
    line = case.line.split()  # type: ignore[union-attr]
    try:
        ended = nursery.run([words.get(word, word) for word in line])
    finally:
        for name in ("folder", "locked"):
            if Path(name).exists():
                Path(name).chmod(0o755)
    if case.name == "interpolate":
        assert "faces-vae" in ended.stderr  # the shipped one
    after = faults.files()
    judge(case, ended.code, ended.stderr, ended.stdout, before | {name: after[name] for name in after.keys() & before})


@table(
    [
        Case("run", "run pipe.jpg -m M -o x.png"),
        Case("run folder", "run pipes -m M -o x"),
        Case("mask", "run a.png --mask pipe.jpg -m M -o x.png"),
        Case("corrupt", "corrupt pipe.jpg --corrupt blur -o x.png"),
        Case("interpolate", "interpolate a.png pipe.jpg -m VAE -o x.gif"),
        Case("evaluate", "evaluate M --data pipes"),
        Case("evaluate a pipe", "evaluate M --data pipe.jpg"),
        Case("train", f"train conv --data pipes {TINY} -o run"),
        Case("model", "info ./pipe.jpg", "is not a regular file"),
    ],
    short=lambda case: case.name in ("run folder", "mask", "evaluate", "model"),
)
def test_pipes_that_nobody_writes(case: Case, models: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery, "patience", 8.0)
    Path("pipes").mkdir()
    os.mkfifo("pipe.jpg")
    os.mkfifo("pipes/pipe.jpg")
    before = faults.files()
    words = {"M": models / "faces-conv.safetensors", "VAE": models / "faces-vae.safetensors"}
    ended = nursery.run([words.get(word, word) for word in case.line.split()])  # type: ignore[union-attr]
    judge(case, ended.code, ended.stderr, ended.stdout, before)


def test_two_trainings_in_one_folder(shelf: Path, nursery: Nursery) -> None:
    """The second is refused, and the first goes on unharmed."""
    line = ["train", "conv", "--data", "photos.npz", *TINY.split()[:-1], "10000", "-o", "run"]
    first = subprocess.Popen([*faults.PROGRAM, *line], stderr=subprocess.PIPE, text=True)
    assert first.stderr
    try:
        for told in first.stderr:
            if told.startswith("epoch 2/"):
                break
        for words in (line, ["train", "--resume", "run"]):  # not `check`: the first one's files come and go
            second = nursery.run(words)
            assert second.code == 1 and "another training writes to run" in faults.sentence(second.stderr)
            assert "Traceback" not in second.stderr + second.stdout
        assert first.poll() is None
        epochs = [int(told.split()[1].split("/")[0]) for told, _ in zip(first.stderr, range(3), strict=False)]
        assert epochs == [3, 4, 5]
    finally:
        first.send_signal(signal.SIGTERM)
        _, told = first.communicate(timeout=60)
    assert first.returncode == 143 and "Traceback" not in told
    assert int(weights.read("run/last.safetensors").metadata["epoch"]) >= 5
    for path in Path("run").iterdir():
        assert path.name == ".lock" or faults.whole(path) is None


# name: (arguments, environment, settings of the child, exit code, words on stderr); None takes a variable away
Setting = tuple[str, dict[str, str | None], dict[str, Any], int | None, str]
NOWHERE = "/nonexistent/folder"
ENVIRONMENT: dict[str, Setting] = {
    "no HOME": ("verify M", {"HOME": None}, {}, 0, ""),
    "HOME nowhere": ("verify M", {"HOME": NOWHERE}, {}, 0, ""),
    "HOME not writable": ("verify M", {"HOME": "/proc", "XDG_CACHE_HOME": None}, {}, 0, ""),
    "HOME is a file": ("verify M", {"HOME": "FILE", "XDG_CACHE_HOME": None}, {}, 0, ""),
    "cache not writable": ("verify M", {"XDG_CACHE_HOME": "/proc/cache"}, {}, 0, ""),
    "cache is a file": ("verify M", {"XDG_CACHE_HOME": "FILE"}, {}, 0, ""),
    "cache is garbage": ("verify M", {"EDGEAE_CACHE": "FILE", "CACHEDB": "FILE"}, {}, 0, ""),
    "device nonsense": ("verify M", {"EDGEAE_DEVICE": "toaster"}, {}, 2, "EDGEAE_DEVICE"),
    "device is a list": ("verify M", {"EDGEAE_DEVICE": "CPU:0,CPU:1"}, {}, 2, "several devices"),
    "DEV nonsense": ("verify M", {"DEV": "toaster"}, {}, None, ""),
    "DEV garbage": ("verify M", {"DEV": "+:+"}, {}, None, ""),
    "CC nowhere": ("verify M", {"CC": NOWHERE}, {}, 0, ""),
    "CC fails": ("verify M", {"CC": "false"}, {}, 0, ""),
    "CC is nonsense": ("verify M", {"CC": "cc 'unbalanced"}, {}, None, ""),
    "TMPDIR nowhere": ("verify M", {"TMPDIR": NOWHERE, "CACHELEVEL": "0"}, {}, 0, ""),
    "CPU_COUNT nonsense": ("verify M", {"CPU_COUNT": "many"}, {}, None, ""),
    "DEBUG for others": ("info nothing", {"DEBUG": "express:*"}, {}, 5, "unset the environment variable"),
    "no LANG": ("run a.png -m M -o x.png", {"LANG": None, "LC_ALL": "C", "PYTHONUTF8": "0"}, {}, 0, ""),
    "encoding": ("info M", {"PYTHONIOENCODING": "ascii"}, {}, 0, ""),
    "nothing at all": ("info nothing", {"PATH": None, "HOME": None, "LANG": None, "TMPDIR": None}, {}, 1, "no shipped"),
    "no stderr": ("run a.png -m M -o x.png", {}, {"closed": "2"}, 0, ""),
    "no stderr for an error": ("verify M -d toaster", {}, {"closed": "2"}, 2, ""),
    "no stdout for a picture": ("run a.png -m M -o -", {}, {"closed": "1"}, 1, "standard output"),
    "no stdout for frames": ("run --raw 64x64 frames.rgb -m M -o -", {}, {"closed": "1"}, 1, "standard output"),
    "no stdin for a picture": ("run - -m M -o x.png", {}, {"closed": "0"}, 1, "standard input"),
    "no stdin for frames": ("run --raw 8x8 - -m M -o out", {}, {"closed": "0"}, 1, "standard input"),
    "full stdout": ("info M", {}, {"stdout": "/dev/full"}, 1, "standard output cannot"),
    "full stdout for JSON": ("info M --json", {}, {"stdout": "/dev/full"}, 1, "standard output cannot"),
    "full stdout for a picture": ("run a.png -m M -o -", {}, {"stdout": "/dev/full"}, 1, "standard output cannot"),
    "full stderr": ("run a.png -m M -o x.png", {}, {"stderr": "/dev/full"}, None, ""),
    "nobody reads text": ("info M", {}, {"stdout": "gone"}, 1, "GONE"),
    "nobody reads the picture": ("run a.png -m M -o -", {}, {"stdout": "gone"}, 1, "GONE"),
    "nobody reads the frames": ("run --raw 64x64 frames.rgb -m M -o -", {}, {"stdout": "gone"}, 1, "GONE"),
    "nobody reads errors": ("info nothing", {}, {"stderr": "gone"}, None, ""),
    "the folder is gone": ("run a.png -m M -o x.png", {}, {"folder": "gone"}, 1, "a.png does not exist"),
}

FEW_SETTINGS = [
    "no HOME",
    "HOME is a file",
    "cache not writable",
    "cache is garbage",
    "device is a list",
    "DEV garbage",
]
FEW_SETTINGS += ["CC is nonsense", "TMPDIR nowhere", "DEBUG for others", "no LANG", "nothing at all", "no stderr"]
FEW_SETTINGS += ["no stdout for a picture", "no stdin for frames", "full stdout for JSON", "nobody reads the picture"]
FEW_SETTINGS += ["the folder is gone"]
OTHER_SETTINGS = [name for name in ENVIRONMENT if name not in FEW_SETTINGS]


def start(name: str, place: Path, models: Path, inputs: Path) -> tuple[int, str, str, faults.Files]:
    """Run one of ENVIRONMENT in a folder of its own: exit code, stdout, stderr, and the files before."""
    line, environment, settings, _, _ = ENVIRONMENT[name]
    folder = place / name.replace(" ", "-")
    folder.mkdir()
    for path in ("a.png", "frames.rgb"):
        os.link(inputs / path, folder / path)
    (folder / "FILE").write_bytes(b"garbage" * 99)
    values = {key: str(folder / "FILE") if value == "FILE" else value for key, value in environment.items()}
    words = [str(models / "faces-conv.safetensors") if word == "M" else word for word in line.split()]
    before = faults.files(folder)
    options: dict[str, Any] = {"cwd": folder}
    opened = []
    for stream in ("stdout", "stderr"):
        if settings.get(stream) == "gone":
            reader, writer = os.pipe()
            os.close(reader)
            options[stream] = writer
            opened.append(writer)
        elif stream in settings and Path(settings[stream]).exists():
            options[stream] = os.open(settings[stream], os.O_WRONLY)
            opened.append(options[stream])
    closing = " ".join(f"{number}{'<' if number == '0' else '>'}&-" for number in settings.get("closed", ""))
    if closing:
        options["before"] = ["/bin/sh", "-c", f'exec "$@" {closing}', "sh"]
    if settings.get("folder") == "gone":
        options["before"] = ["/bin/sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"]
    done = child(*words, environment=values, **options)
    for file in opened:
        os.close(file)
    texts = [text.decode(errors="surrogateescape") if text else "" for text in (done.stdout, done.stderr)]
    return done.returncode, texts[0], texts[1], before


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, models: Path, inputs: Path) -> Iterator[dict[str, Future[Any]]]:
    """All of ENVIRONMENT, three at once."""
    place = tmp_path_factory.mktemp("environment")
    names = ENVIRONMENT if ALL else FEW_SETTINGS
    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(start, name, place, models, inputs) for name in names}


@pytest.mark.parametrize("name", [*FEW_SETTINGS, *(pytest.param(n, marks=exhaustive) for n in OTHER_SETTINGS)])
def test_environment(name: str, started: dict[str, Future[Any]]) -> None:
    _, _, settings, expected, says = ENVIRONMENT[name]
    if "/dev/full" in settings.values() and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    code, stdout, stderr, _ = started[name].result()
    assert "Traceback" not in stderr + stdout, stderr
    assert code == expected or (expected is None and code in (0, 1, 2, 5)), f"exit {code}: {stderr}"
    if says == "GONE":  # a reader that leaves is no fault worth a word
        assert "edgeae:" not in stderr
    elif code and "stderr" not in settings and "2" not in settings.get("closed", ""):
        assert says.lower() in sentence(stderr, code).lower()


def test_how_many() -> None:
    """The cases of this file, each checked alone."""
    count = (
        len(OUTPUTS) * 2
        + 6
        + len(WHERE)
        + 6
        + 2 * len(NAMES) * len(BY_NAME)
        + 12
        + 14
        + len(PERMISSIONS)
        + 9
        + 2
        + len(ENVIRONMENT)
    )
    print(f"{count} cases")
    assert count >= 150
