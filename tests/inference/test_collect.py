"""Which photos are taken, and where their results go: no two to one place, none over a photo, no result as a photo."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import photo
from PIL import Image

from edgeae import files
from edgeae.errors import EdgeaeError, ImageError, UsageError
from edgeae.images.files.listing import LeftOut
from edgeae.inference import collect as collecting
from edgeae.inference.collect import Item, collect, is_result, output_folder


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(8, 12, seed=seed)).save(path)
    return path


def touch(*names: str) -> list[Path]:
    """Make files in the working folder, of which only the names count."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return [Path(name) for name in names]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def names(items: list[Item], root: Path) -> list[str]:
    return [item.target.relative_to(root).as_posix() for item in items]


def targets(items: list[Item]) -> list[str]:
    return [item.target.as_posix() for item in items]


TREE = ["a.png", "b c.jpg", "deep/d.webp", "deep/er/e.bmp", "deep/er/f.gif", "deep/er/ü.tif"]


def test_a_folder_keeps_its_tree(tree: Path, tmp_path: Path) -> None:
    assert names(collect([tree], tmp_path / "out"), tmp_path / "out") == TREE
    assert names(collect([tree]), tmp_path / "in.out") == TREE
    assert all(item.keep for item in collect([tree]))
    assert not any(item.keep for item in collect([tree], overwrite=True))


def test_a_folder_within_the_folder_is_no_input(tree: Path) -> None:
    save(tree / "out" / "a.png")
    assert names(collect([tree], tree / "out"), tree / "out") == TREE


def test_patterns(tree: Path, tmp_path: Path) -> None:
    assert names(collect([tree / "**" / "*.[tg]if"], tmp_path), tmp_path) == ["deep/er/f.gif", "deep/er/ü.tif"]
    assert [item.target.name for item in collect([tree / "*.png"])] == ["a.out.png"]
    save(tree / "odd[1].png")
    assert collect([tree / "odd[1].png"])[0].source == tree / "odd[1].png"  # a file of that name is no pattern


def test_a_pattern_in_a_folder_with_brackets(tree: Path) -> None:
    save(tree / "scans [1]" / "a.png")
    save(tree / "scans 1" / "b.png")
    assert [item.source.name for item in collect([tree / "scans [1]" / "*.png"])] == ["a.png"]


@pytest.mark.parametrize("pattern", ["*/*.png", "**/*.png", "no/*.png", "*/in/*.png"])
def test_a_pattern_says_which_folders_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    save(tmp_path / "yes" / "a.png")
    save(tmp_path / "no" / "in" / "b.png")
    denied = tmp_path / "no" / "in" if pattern == "*/in/*.png" else tmp_path / "no"
    for name in ("listdir", "scandir"):
        real = getattr(os, name)

        def deny(folder: str | Path, real: Callable[..., Any] = real) -> Any:
            if Path(folder) == denied:
                raise PermissionError(13, "Permission denied")
            return real(folder)

        monkeypatch.setattr(os, name, deny)
    left_out: list[LeftOut] = []
    items = collect([tmp_path / pattern], tmp_path / "out", on_left_out=left_out.append)
    assert [item.source.name for item in items] == (
        ["a.png"] if pattern.startswith("*") and denied.name == "no" else []
    )
    assert [(one.path, one.missed) for one in left_out] == [(str(denied), True)]


def test_a_pattern_ends_in_loops_of_links(tree: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tree / "deep" / name).symlink_to(tree)
    assert [item.source.name for item in collect([tree / "**" / "*.webp"], tmp_path / "out")] == ["d.webp"]


def test_a_pattern_does_not_take_its_own_results(tree: Path) -> None:
    save(tree / "deep" / "out" / "d.png")
    left_out: list[LeftOut] = []
    items = collect([tree / "**" / "*.png"], tree / "deep" / "out", on_left_out=left_out.append)
    assert [item.source.name for item in items] == ["a.png"] and len(left_out) == 1


def test_one_file(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    for output, target in ((None, "a.out.png"), (tmp_path / "x.jpg", "x.jpg"), (tmp_path / "new", "new/a.png")):
        (item,) = collect([source], output)
        assert item.target == tmp_path / target and not item.keep


def test_what_makes_no_sense(tree: Path, tmp_path: Path) -> None:
    twice = save(tmp_path / "other" / "a.png")
    (tmp_path / "empty").mkdir()
    for inputs, output, kind, words in (
        ([tree, twice], tmp_path / "one.png", UsageError, "one file for several"),
        ([tree / "a.png", twice], tmp_path / "out", UsageError, "would both become"),
        ([tree / "a.png"], tree, UsageError, "would be overwritten"),
        ([tree], tree, UsageError, "would be overwritten"),
        ([tree / "a.png"], tmp_path / "x.doc", UsageError, "known extensions"),
        ([tmp_path / "empty"], None, ImageError, "holds no images"),
        ([tree / "*.nef"], None, ImageError, "matches no file"),
    ):
        with pytest.raises(kind, match=words) as error:
            collect(inputs, output)
        assert str(error.value).endswith(".")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
def test_links_that_lead_in_a_circle(tree: Path, tmp_path: Path) -> None:
    (tree / "deep" / "loop").symlink_to(tree)
    assert names(collect([tree], tmp_path / "out"), tmp_path / "out") == TREE


# ---- the folder of the results -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "expected"), [
    ("scans", "scans.out"), ("scans/", "scans.out"), ("scans/.", "scans.out"), ("./scans", "scans.out"),
    (".", "../work.out"), ("scans/sub/..", "scans.out"), ("scans/sub/../sub", "scans/sub/../sub.out"),
    ("album", "album.out"), ("album/", "album.out"), ("album/sub", "album/sub.out"), ("..", "../../TOP.out"),
    ("album/..", "TOP/elsewhere.out"), ("scans.2024", "scans.2024.out"), (".hidden", ".hidden.out"),
])  # fmt: skip
def test_folders_beside(work: Path, name: str, expected: str) -> None:
    """`album` is a link to a folder elsewhere, whose `..` is there and not here."""
    (work.parent / "elsewhere" / "scans" / "sub").mkdir(parents=True)
    for folder in ("scans/sub", "scans.2024", ".hidden"):
        Path(folder).mkdir(parents=True)
    Path("album").symlink_to(work.parent / "elsewhere" / "scans")
    place = output_folder(Path(name))
    expected = expected.replace("../../TOP", f"../../{work.parent.name}").replace("TOP/", "../")
    assert place == Path(expected)
    assert not place.resolve().is_relative_to(Path(name).resolve())


@pytest.mark.parametrize("name", ["/", "//", "/.", "/etc/..", "/.."])
def test_the_root_needs_a_name(name: str) -> None:
    with pytest.raises(UsageError, match="name one with `output`"):
        output_folder(Path(name))


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_no_folder_can_be_made_beside(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(Path("in/a.png"))
    monkeypatch.setattr(collecting.os, "access", lambda path, how: False)
    with pytest.raises(EdgeaeError, match=r"in\.out cannot be made beside in: .* `output`"):
        collect([Path("in")])
    assert len(collect([Path("in")], Path("elsewhere"))) == 1


# ---- results of earlier runs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "taken"), [
    ("a.png a.out.png", "a.png"),
    ("a.png a.out.png a.out.out.png", "a.png"),
    ("a.jpg a.out.png b.png", "a.jpg a.out.png b.png"),  # of another format: somebody's own name
    ("a.out.png b.png", "a.out.png b.png"),  # its photo is not among them
    ("a.png a.compare.png", "a.png"),
    ("a.jpg b.png a.compare.png", "a.jpg b.png"),
    ("a.JPG a.out.JPG a.out.JPG.compare.png a.out.compare.png", "a.JPG"),
    ("compare.png .compare.png b.png", "compare.png b.png"),
    ("a.compare.png b.png", "a.compare.png b.png"),
    ("in/1.png in.out/1.png", "in/1.png"),
    ("in/sub/1.png in.out/sub/1.png in.out/sub/1.compare.png", "in/sub/1.png"),
    ("in/1.png in.out/2.png", "in/1.png in.out/2.png"),  # no result of what is there
    ("in/trip/1.png in/trip.out/1.png", "in/trip/1.png"),
    ("./a.png a.out.png", "a.png"),
    ("x/../a.png a.out.png", "x/../a.png"),
])  # fmt: skip
def test_results_are_no_photos(work: Path, given: str, taken: str) -> None:
    Path("x").mkdir()
    left_out: list[LeftOut] = []
    items = collect(touch(*given.split()), Path("out"), on_left_out=left_out.append)
    expected = [path for path in map(Path, taken.split()) if path.name != ".compare.png"]
    assert [item.source for item in items if item.source.name != ".compare.png"] == expected
    assert not any(one.missed for one in left_out)


@pytest.mark.parametrize("name", ["a.out.png", "a.compare.png", "a.out.compare.png"])
def test_a_file_named_alone_is_taken(work: Path, name: str) -> None:
    touch("a.png", "a.out.png", name)
    (item,) = collect([Path(name)])
    assert item.source == Path(name) and item.target == Path(name).with_name(f"{Path(name).stem}.out.png")


@pytest.mark.parametrize("how", ["folder", "pattern", "files", "files and folders"])
def test_a_second_run_finds_what_the_first_did(work: Path, how: str) -> None:
    """All that the first run writes is there, and none of it is a photo for the second."""
    touch("in/a.png", "in/a.jpg", "in/b.tif", "in/sub/a.png")

    def given() -> list[Path]:
        if how == "files and folders":
            return sorted(Path("in").iterdir())
        return {"folder": [Path("in")], "pattern": [Path("in/**/*.*")], "files": sorted(Path("in").rglob("*.*"))}[how]

    first = collect(given(), compare=True)
    for item in first:
        assert item.comparison is not None
        touch(str(item.target), str(item.comparison))
    assert [(item.source, item.target) for item in collect(given(), compare=True)] == [
        (item.source, item.target) for item in first
    ]


def test_results_by_name_alone() -> None:
    photos = {Path("/a/in/x.png"), Path("/a/y.jpg")}
    for name, expected in (("/a/in.out/x.png", True), ("/a/in.out/x.jpg", False), ("/a/y.out.jpg", True),
                           ("/a/y.compare.png", True), ("/a/.out/x.png", False), ("/a/y.jpg", False)):  # fmt: skip
        assert is_result(Path(name), photos.__contains__) == expected, name


# ---- one output for one photo ------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [
    "a.png a.jpg", "in/a.png in/a.jpg", "in/a.png in/A.jpg", "a.tif a.tiff a.TIF", "x/a.png y/a.jpg",
])  # fmt: skip
def test_comparisons_of_one_name(work: Path, given: str) -> None:
    items = collect(touch(*given.split()), Path("out"), compare=True)
    written = [str(path).casefold() for item in items for path in (item.target, item.comparison)]
    expected = 2 * len(items) - 2 * given.count("TIF")  # these two are one where case does not count
    assert len(set(written)) == expected and len({str(item.comparison) for item in items}) == len(items)


def test_comparisons_of_runs_one_after_the_other(work: Path) -> None:
    touch("in/a.png", "b.jpg")
    (first,) = collect([Path("in/a.png")], Path("out/a.png"), compare=True)
    assert first.comparison == Path("out/a.compare.png")
    touch("out/a.png", "other/a.jpg")
    (second,) = collect([Path("other/a.jpg")], Path("out/a.jpg"), compare=True)
    assert second.comparison == Path("out/a.jpg.compare.png")
    assert collect([Path("b.jpg")], compare=True)[0].comparison == Path("b.out.compare.png")
    assert collect([Path("b.jpg")])[0].comparison is None


@pytest.mark.parametrize(("given", "output"), [
    ("x/a.png y/a.png", "out"), ("x/a.png y/A.png", "out"), ("x/\u00e9.png y/e\u0301.png", "out"), ("x y", "out"),
])  # fmt: skip
def test_two_photos_for_one_place(work: Path, monkeypatch: pytest.MonkeyPatch, given: str, output: str) -> None:
    """On a file system that ignores case and how accents are coded, as macOS has it."""
    monkeypatch.setattr(collecting, "names_one_file", lambda one, other: True)
    touch(*given.split()) if "." in given else touch("x/a.png", "y/a.png")
    with pytest.raises(UsageError, match=r"x/.* and y/.* would both become out/.*; restore them one by one"):
        collect([Path(name) for name in given.split()], Path(output))


def test_names_that_differ_here(work: Path) -> None:
    touch("probe")
    if Path("PROBE").exists():
        pytest.skip("case does not count here")
    assert len(collect(touch("x/a.png", "y/A.png"), Path("out"))) == 2
    assert files.names_one_file(work / "a", work / "a") and not files.names_one_file(work / "a", work / "A")
    assert not files.names_one_file(work / "new" / "a", work / "NEW" / "b")
    assert sorted(path.name for path in work.iterdir()) == ["probe", "x", "y"]


@pytest.mark.parametrize("again", ["a.png", "./a.png", "x/../a.png", "link/a.png", "ABSOLUTE"])
def test_a_photo_that_is_named_twice_is_one(work: Path, again: str) -> None:
    touch("a.png", "x/b.png")
    Path("link").symlink_to(work)
    again = str(work / "a.png") if again == "ABSOLUTE" else again
    assert len(collect([Path("a.png"), Path(again)])) == 1


@pytest.mark.parametrize(("inputs", "output"), [
    ("a.png", "a.png"), ("a.png", "./a.png"), ("a.png", "x/../a.png"), ("a.png", "."), ("a.png", "soft.png"),
    ("a.png", "hard.png"), ("soft.png", "a.png"), ("a.png", "here/a.png"), ("a.png", "ABSOLUTE"),
    ("in", "in"), ("in", "in/."), ("in", "in/sub/.."), ("inlink", "in"), ("in", "inlink"), ("in/*.png", "in"),
    ("in/b.png in/c.png", "in"), ("y/b.png in/c.png", "in"),
])  # fmt: skip
def test_no_photo_is_overwritten(work: Path, inputs: str, output: str) -> None:
    touch("a.png", "x/1.png", "in/b.png", "in/c.png", "in/sub/d.png", "y/b.png")
    Path("soft.png").symlink_to("a.png")
    Path("hard.png").hardlink_to("a.png")
    Path("here").symlink_to(work)
    Path("inlink").symlink_to("in")
    if inputs == "y/b.png in/c.png":
        inputs = "y/b.png in/b.png"
        with pytest.raises(UsageError, match=r"in/b\.png would be overwritten"):
            collect(list(map(Path, inputs.split())), Path(output), overwrite=True)
        return
    place = work / "a.png" if output == "ABSOLUTE" else Path(output)
    with pytest.raises(UsageError, match="would be overwritten by a result; name another place with `output`"):
        collect(list(map(Path, inputs.split())), place)


def test_results_within_the_folder(work: Path) -> None:
    """In a sub-folder of it, under any spelling, also through a link."""
    touch("in/a.png", "in/done/a.png", "in/done/sub/b.png")
    Path("in/link").symlink_to("done")
    for output in ("in/done", "./in/../in/done", str(work / "in" / "done"), "in/link"):
        assert [item.source for item in collect([Path("in")], Path(output))] == [Path("in/a.png")]


# ---- patterns and lists ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "taken", "missed"), [
    ("*", "a.png c.jpg", "raw.nef sub"), ("**/*", "a.png c.jpg sub/d.png", "raw.nef"), ("*.dat", "b.dat", ""),
    ("**/*.png", "a.png sub/d.png", ""), ("[ab].*", "a.png", ""), ("*.nef", "raw.nef", ""),
])  # fmt: skip
def test_what_patterns_take(work: Path, pattern: str, taken: str, missed: str) -> None:
    touch(
        "a.png", "b.dat", "c.jpg", "notes.txt", "raw.nef", "sub/d.png", "@eaDir/x.png", "sub/@eaDir/y.png", "Thumbs.db"
    )
    left_out: list[LeftOut] = []
    items = collect([Path(pattern)], Path("out"), on_left_out=left_out.append)
    assert sorted(str(item.source) for item in items) == taken.split()
    assert sorted(one.path for one in left_out if one.missed) == missed.split()


def test_all_that_a_shell_names(work: Path) -> None:
    """`edgeae run *` in a folder with leftovers of systems and a folder of results."""
    touch("a.png", "Thumbs.db", "@eaDir/a.png/THUMB.jpg", "in/1.png", "in.out/1.png", "__MACOSX/._a.png")
    left_out: list[LeftOut] = []
    items = collect(sorted(Path().iterdir()), on_left_out=left_out.append)
    assert sorted(targets(items)) == ["a.out.png", "in.out/1.png"]
    assert sorted(one.path for one in left_out) == ["@eaDir", "Thumbs.db", "__MACOSX", "in.out/1.png"]


def test_only_photos_that_cannot_be_read(work: Path) -> None:
    touch("in/a.nef", "in/b.cr2", "empty/notes.txt")
    left_out: list[LeftOut] = []
    assert collect([Path("in")], on_left_out=left_out.append) == [] and len(left_out) == 2
    with pytest.raises(ImageError, match="holds no images"):
        collect([Path("empty")])
