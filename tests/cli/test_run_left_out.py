"""`edgeae run`: what is left out is told in text and JSON; permissions, litter, and causes of failures."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import error, photo, run
from helpers.faults import LEFT_OVER, PROGRAM
from PIL import Image

pytestmark = pytest.mark.usefixtures("working_folder")


def save(name: str, seed: int = 0, mode: int | None = None) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(seed=seed)).save(path)
    if mode is not None:
        path.chmod(mode)
    return path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def outputs(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.mark.parametrize(("others", "code", "words"), [
    (["b.nef"], 3, "raw photo; develop it first"), (["b.jxl"], 3, "JPEG XL"), (["b.jp2", "c.psd"], 3, "JPEG 2000"),
    (["link.png"], 3, "link to what is not there"), (["album"], 3, "link to what is not there"),
    ([".IMG_1.HEIC.icloud"], 3, "iCloud"),
    (["notes.txt"], 0, "not a picture"), (["b.xmp", "b.mov"], 0, "video"), ([".b.png"], 0, "hidden"),
    (["@eaDir/a.png/x.jpg", "Thumbs.db", "._a.png"], 0, ""),
], ids=lambda value: value[0] if isinstance(value, list) else "")  # fmt: skip
def test_left_out(shelf: Path, others: list[str], code: int, words: str) -> None:
    save("in/a.png")
    for name in others:
        if name in ("link.png", "album"):
            Path("in", name).symlink_to("nowhere")
        else:
            touch(f"in/{name}")
    result = run("run", "in", "-o", "out", code=code)
    assert outputs("out") == ["a.png"] and words in result.stderr
    if code:
        assert "left out." in error(result)
    document = json.loads(run("run", "in", "-o", "out", "--json", code=code).stdout)
    assert [one["path"] for one in document["left_out"]] == sorted(f"in/{name}" for name in others if words)
    assert all(set(one) == {"path", "reason", "missed"} for one in document["left_out"])
    assert any(one["missed"] for one in document["left_out"]) == (code == 3)


def test_ten_thousand_are_a_few_lines(shelf: Path) -> None:
    save("in/a.png")
    touch(*(f"in/{i}.nef" for i in range(300)), *(f"in/{i}.txt" for i in range(300)))
    result = run("run", "in", "-o", "out", code=3)
    assert len(result.stderr.splitlines()) < 8 and "300 left out (in/0.nef, in/1.nef, in/10.nef, …)" in result.stderr
    quiet = run("run", "in", "-o", "out", "-q", code=3)
    assert "raw photo" in quiet.stderr and "not a picture" not in quiet.stderr


def test_only_photos_that_are_missed(shelf: Path) -> None:
    touch("in/a.nef", "in/b.nef")
    result = run("run", "in", "--json", code=1)
    assert len(json.loads(result.stdout)["left_out"]) == 2 and error(result) == "2 photos or folders were left out."


def test_the_second_run_does_nothing(shelf: Path) -> None:
    save("a.png")
    save("a.jpg", 1)
    names = sorted(map(str, Path().iterdir()))
    run("run", *names, "--compare")
    written = sorted(map(str, Path().iterdir()))
    assert written == ["a.jpg", "a.out.jpg", "a.out.jpg.compare.png", "a.out.png", "a.out.png.compare.png", "a.png"]
    again = run("run", *written, "--compare")
    assert sorted(map(str, Path().iterdir())) == written and "2 existed already" in again.stderr
    run("run", "a.out.png")
    assert Path("a.out.out.png").exists()


@pytest.mark.parametrize(("inputs", "output"), [
    (["a.png"], "a.png"), (["a.png"], "./a.png"), (["a.png"], "soft.png"), (["a.png"], "hard.png"), (["a.png"], "."),
])  # fmt: skip
def test_a_photo_is_never_its_own_output(shelf: Path, inputs: list[str], output: str) -> None:
    before = save("a.png").read_bytes()
    Path("soft.png").symlink_to("a.png")
    Path("hard.png").hardlink_to("a.png")
    assert "name another place with -o" in error(run("run", *inputs, "-o", output, code=2))
    assert Path("a.png").read_bytes() == before and Path("soft.png").is_symlink()


@pytest.mark.parametrize("command", [
    ["corrupt", "a.png", "--corrupt", "blur", "-o", "a.png"],
    ["corrupt", "a.png", "--corrupt", "blur", "-o", "soft.png"],
    ["interpolate", "a.png", "b.png", "-o", "b.png"],
])  # fmt: skip
def test_other_commands_overwrite_no_input(shelf: Path, command: list[str]) -> None:
    before = save("a.png").read_bytes(), save("b.png").read_bytes()
    Path("soft.png").symlink_to("a.png")
    assert "would be overwritten" in error(run(*command, code=2))
    assert (Path("a.png").read_bytes(), Path("b.png").read_bytes()) == before


@pytest.mark.parametrize("folder", [".", "..", "album", "album/.", "../in", "ABSOLUTE"])
def test_names_of_folders(shelf: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    save("in/1.png")
    save("in/sub/2.png")
    Path("album").symlink_to("in")
    base = Path.cwd()
    monkeypatch.chdir({".": "in", "..": "in/sub", "../in": "in"}.get(folder, "."))
    run("run", str(base / "in") if folder == "ABSOLUTE" else folder)
    place = base / ("album.out" if folder.startswith("album") else "in.out")
    assert outputs(str(place)) == ["1.png", "sub/2.png"]
    assert sorted(path.name for path in base.iterdir()) == sorted(["album", "in", place.name])


def test_home(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("home/a.png")
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    run("run", "~/a.png", "--output=~/b.png")
    assert outputs("home") == ["a.png", "b.png"] and not Path("~").exists()
    save("~/c.png")
    run("run", "~/c.png")
    assert outputs("~") == ["c.out.png", "c.png"]


@pytest.mark.parametrize("command", [
    ["run", "a.png", "--compare"], ["run", "in", "--compare", "-o", "out"], ["run", "a.png", "-o", "old.png"],
    ["corrupt", "a.png", "--corrupt", "blur", "-o", "x.jpg"], ["interpolate", "a.png", "b.png", "-o", "x.gif"],
    ["interpolate", "b.png", "a.png", "-o", "steps", "--steps", "3"],
], ids=" ".join)  # fmt: skip
def test_private_photos_stay_private(shelf: Path, command: list[str]) -> None:
    for name in ("a.png", "in/a.png"):
        save(name, mode=0o600)
    save("b.png", mode=0o644)
    save("old.png", mode=0o644)
    before = set(Path().rglob("*"))
    run(*command)
    written = [path for path in Path().rglob("*") if path.is_file() and (path not in before or path.name == "old.png")]
    if "old.png" not in command:
        written.remove(Path("old.png"))
    assert written and {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}


@pytest.mark.parametrize(("name", "make"), [
    ("pipe.png", os.mkfifo), ("device.png", lambda name: Path(name).symlink_to("/dev/zero")),
    ("n" * 300, lambda n: None),
    ("folder.png/x.png", lambda name: Path("folder.png").touch()),
], ids=["pipe", "device", "too long", "file as folder"])  # fmt: skip
def test_inputs_of_odd_kinds(shelf: Path, name: str, make: object) -> None:
    make(name)  # type: ignore[operator]
    assert name in error(run("run", name, code=1))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("files", [40, 64])
def test_few_files_may_be_open(shelf: Path, files: int) -> None:
    """Either it is done with few threads, or said in one sentence."""
    for i in range(40):
        save(f"in/{i}.png", i)
    model = str(shelf / "faces-residual.safetensors")
    line = f'ulimit -n {files}; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", line, "-", *PROGRAM, "run", "in", "-o", "out", "-m", model, "-d", "CPU"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr and "unexpected" not in done.stderr
    assert done.returncode == 0 and len(outputs("out")) == 40


@pytest.mark.parametrize(("code", "words"), [
    (errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota"),
], ids=["full", "read-only", "quota"])  # fmt: skip
def test_what_the_next_photo_would_meet_too(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    for i in range(8):
        save(f"in/{i}.png", i)

    def refuse(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("edgeae.files.os.fsync", refuse)
    assert words in error(run("run", "in", "-o", "out", code=1)) and outputs("out") == []


def test_litter_of_killed_runs_is_removed(shelf: Path) -> None:
    save("in/a.png")
    save("in/sub/b.png")
    stale = [Path("out", f"{LEFT_OVER}0123456789abcde{i}.tmp") for i in range(3)]
    stale.append(Path("out/sub", f"{LEFT_OVER}0123456789abcdef.tmp"))
    touch(*map(str, stale), "out/.edgeae-young.tmp", f"out/{LEFT_OVER}ffffffffffffffff.tmp")
    for path in stale:
        os.utime(path, (1e9, 1e9))
    run("run", "in", "-o", "out")
    assert outputs("out") == [".edgeae-ffffffffffffffff.tmp", ".edgeae-young.tmp", "a.png", "sub/b.png"]
