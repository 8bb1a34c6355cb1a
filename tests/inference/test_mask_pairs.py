"""Masks in a folder: which one belongs to which photo, and what is said where that cannot be known."""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from helpers import FileFactory, error, photo, run
from PIL import Image

from edgeae.errors import ImageError, UsageError
from edgeae.inference.collect import collect
from edgeae.inference.mask_pairs import add_masks


def touch(root: Path, *names: str) -> None:
    """Make empty files: pairing does not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


# id: photos, masks, the mask of each photo in the photos' order or a word of the reason why there is none
SITUATIONS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "same path": (["a.png", "s/b.jpg"], ["a.png", "s/b.jpg"], ["a.png", "s/b.jpg"]),
    "same path, another extension": (["a.jpg", "s/b.JPG"], ["a.png", "s/b.tiff"], ["a.png", "s/b.tiff"]),
    "one stem in two sub-folders": (["s/a.png", "t/a.png"], ["s/a.png", "t/a.png"], ["s/a.png", "t/a.png"]),
    "one of two sub-folders lacks its mask": (
        ["s/a.png", "t/a.png"],
        ["s/a.png"],
        ["s/a.png", "s/a.png is that of another photo, add one at its own path, such as t/a.png."],
    ),
    "two photos, one mask above both": (["s/a.png", "t/a.png"], ["a.png"], ["fits several", "fits several"]),
    "one photo, masks in two sub-folders": (["a.png"], ["s/a.png", "t/a.png"], ["s/a.png and t/a.png: keep one"]),
    "one photo, masks of two extensions": (["a.png", "b.png"], ["a.png", "a.jpg", "b.png"], ["several masks", "b.png"]),
    "three masks": (["a.gif"], ["a.png", "a.jpg", "a.tif"], ["a.jpg and a.png and others"]),
    "photos and masks of two extensions": (["a.jpg", "a.png"], ["a.jpg", "a.png"], ["a.jpg", "a.png"]),
    "the mask of another extension's photo": (["a.jpg", "a.png"], ["a.png"], ["is that of another photo", "a.png"]),
    "a flat folder of masks": (["s/a.jpg", "t/b.jpg"], ["a.png", "b.png"], ["a.png", "b.png"]),
    "masks sorted into sub-folders": (["a.jpg", "b.jpg"], ["x/a.png", "y/b.png"], ["x/a.png", "y/b.png"]),
    "a path beats a name elsewhere": (["a.jpg"], ["a.png", "old/a.png"], ["a.png"]),
    "a suffix": (["photo.jpg"], ["photo_mask.png"], ["rename photo_mask.png if"]),
    "a prefix": (["photo.jpg"], ["mask-photo.png"], ["rename mask-photo.png if"]),
    "the photo's extension in the mask's name": (["photo.jpg"], ["photo.jpg.png"], ["rename photo.jpg.png if"]),
    "case": (["Photo.jpg"], ["photo.png"], ["rename photo.png if"]),
    "another normal form": (
        [unicodedata.normalize("NFC", "é.jpg") * 2],
        [unicodedata.normalize("NFD", "é.png") * 2],
        ["no mask of its name"],
    ),
    "a letter wrong": (["holiday.jpg"], ["hollday.png", "other.png"], ["rename hollday.png if"]),
    "a mask that another photo has": (["2021.05.jpg", "2021.06.jpg"], ["2021.05.png"], ["2021.05.png", ": add one."]),
    "nothing alike": (["a.jpg"], ["zzz.png"], [": add one"]),
    "no image among the masks": (["a.jpg"], ["a.txt", "a.psd"], [": add one"]),
    "droppings": (["a.jpg"], ["a.png", "._a.png", ".cache/a.png"], ["a.png"]),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_names_are_never_guessed(situation: str, tmp_path: Path) -> None:
    photos, masks, expected = SITUATIONS[situation]
    touch(tmp_path / "in", *photos)
    touch(tmp_path / "masks", *masks)
    if len(list((tmp_path / "in").rglob("*.*"))) < len(photos):
        pytest.skip("the file system takes two of the names for one")
    inputs = [tmp_path / "in"]
    masked, failed = add_masks(collect(inputs, tmp_path / "out"), tmp_path / "masks", inputs)
    outcomes = {str(item.source): str(item.mask) for item in masked} | {each.source: each.reason for each in failed}
    assert len(outcomes) == len(photos) == len(masked) + len(failed)
    for name, outcome in zip(photos, expected, strict=True):
        found = outcomes[str(tmp_path / "in" / name)]
        if outcome in masks:
            assert found == str(tmp_path / "masks" / outcome)
        else:
            assert outcome in found and found.startswith(str(tmp_path / "in" / name)) and found.endswith(".")


@pytest.mark.parametrize("masks", [["x/a.png", "y/a.png"], ["x/a.tif", "y/a.tif", "a.tif"]])
def test_photos_that_are_named_one_by_one(masks: list[str], tmp_path: Path) -> None:
    """The end of the path that is longest counts."""
    touch(tmp_path / "in", "x/a.png", "y/a.png")
    touch(tmp_path / "masks", *masks)
    inputs = [tmp_path / "in" / "x" / "a.png", tmp_path / "in" / "y" / "a.png"]
    items, failed = add_masks(collect(inputs, overwrite=True), tmp_path / "masks", inputs)
    assert [item.mask for item in items] == [tmp_path / "masks" / name for name in masks[:2]] and not failed


def test_a_pattern_and_two_folders(tmp_path: Path) -> None:
    touch(tmp_path, "in/s/a.png", "more/s/a.png", "more/b.png", "masks/s/a.png", "masks/b.png")
    inputs = [tmp_path / "in" / "**" / "*.png"]
    items, failed = add_masks(collect(inputs), tmp_path / "masks", inputs)
    assert [item.mask for item in items] == [tmp_path / "masks" / "s" / "a.png"] and not failed
    inputs = [tmp_path / "in", tmp_path / "more"]  # one mask at the path of two photos
    items, failed = add_masks(collect(inputs), tmp_path / "masks", inputs)
    assert [item.mask for item in items] == [tmp_path / "masks" / "b.png"]
    assert [each.source for each in failed] == [str(path / "s" / "a.png") for path in inputs]


def test_masks_among_the_photos_are_no_photos(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/b.png", "in/masks/a.png", "in/masks/b.png")
    inputs = [tmp_path / "in"]
    items, failed = add_masks(collect(inputs), tmp_path / "in" / "masks", inputs)
    assert [item.source.name for item in items] == ["a.png", "b.png"] and not failed
    Image.linear_gradient("L").save(tmp_path / "in" / "b.png")
    items, _ = add_masks(collect(inputs), tmp_path / "in" / "b.png", inputs)
    assert tmp_path / "in" / "b.png" not in [item.source for item in items] and len(items) == 3


# id: inputs, mask
AMONG_THE_PHOTOS = {
    "the folder itself": (["in"], "in"),
    "the folder above": (["in"], "."),
    "two folders above": (["in/s"], "."),
    "a photo of the folder": (["in/a.png"], "in"),
    "photos of the folder and below": (["in/a.png", "in/s/b.png"], "in"),
    "a pattern in the folder": (["in/**/*.png"], "in"),
    "one of two folders lies in it": (["in", "more"], "more/.."),
    "one of two folders lies below": (["in/s", "more"], "in"),
}


@pytest.mark.parametrize("situation", AMONG_THE_PHOTOS)
def test_photos_in_the_folder_of_masks_are_not_lost(
    situation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(Path(), "in/a.png", "in/s/b.png", "more/c.png")
    names, mask = AMONG_THE_PHOTOS[situation]
    inputs = [Path(name) for name in names]
    with pytest.raises(UsageError, match=r"is the folder of the photos, or above it: name a folder of masks alone"):
        add_masks(collect(inputs, Path("out")), Path(mask), inputs)


def test_a_shell_that_names_the_masks_too(tmp_path: Path) -> None:
    """As `scans/*` does."""
    touch(tmp_path, "in/a.jpg", "in/b.jpg", "in/masks/a.png", "in/masks/b.png")
    inputs = sorted((tmp_path / "in").iterdir())
    items, failed = add_masks(collect(inputs, tmp_path / "out"), tmp_path / "in" / "masks", inputs)
    assert [item.source.name for item in items] == ["a.jpg", "b.jpg"] and not failed


@pytest.mark.parametrize("output", ["masks", "masks/new", "in/../masks", "link"])
@pytest.mark.parametrize("photo_name", ["a.png", "a.jpg"])
def test_no_result_lies_among_the_masks(output: str, photo_name: str, tmp_path: Path) -> None:
    touch(tmp_path, f"in/{photo_name}", "masks/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "masks")
    inputs = [tmp_path / "in"]
    with pytest.raises(UsageError, match=r"would lie among the masks: name another place with `output`\."):
        add_masks(collect(inputs, tmp_path / output, overwrite=True), tmp_path / "masks", inputs)


@pytest.mark.parametrize("target", ["mask.png", "./in/../mask.png", "link.png", "in.compare.png"])
def test_no_result_replaces_the_mask(target: str, tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    mask = tmp_path / ("in.compare.png" if "compare" in target else "mask.png")
    Image.linear_gradient("L").save(mask)
    (tmp_path / "link.png").symlink_to(mask)
    items = collect([tmp_path / "in" / "a.png"], tmp_path / target.replace(".compare", ""), compare=True)
    with pytest.raises(UsageError, match=r"would replace the mask: name another place with `output`\."):
        add_masks(items, mask, [tmp_path / "in" / "a.png"])


def test_a_mask_that_does_not_exist(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    with pytest.raises(ImageError, match=r"gone\.png does not exist"):
        add_masks(collect([tmp_path / "in"]), tmp_path / "gone.png", [tmp_path / "in"])


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
def test_a_linked_folder_of_masks(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "elsewhere/a.png")
    (tmp_path / "masks").symlink_to(tmp_path / "elsewhere")
    items, _ = add_masks(collect([tmp_path / "in"]), tmp_path / "masks", [tmp_path / "in"])
    assert [item.mask for item in items] == [tmp_path / "masks" / "a.png"]


def test_the_command_lists_them_and_does_the_rest(
    tmp_path: Path, tiny_file: FileFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/b.png", "in/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(photo()).save(name)
    mask = Image.new("L", (36, 24))
    mask.paste(255, (5, 5, 12, 12))
    for name in ("masks/a.png", "masks/b.png", "masks/b.gif"):
        Path(name).parent.mkdir(exist_ok=True)
        mask.save(name)
    model = tiny_file("conv")
    result = run("run", "in", "--mask", "masks", "-m", model, "-o", "out", code=3)
    assert error(result) == "2 of 3 images could not be restored." and list(Path("out").iterdir()) == [
        Path("out/a.png")
    ]
    assert "in/b.png has several masks in masks, b.gif and b.png: keep one of them." in result.stderr
    assert "in/c.png has no mask of its name in masks: add one." in result.stderr
    document = json.loads(run("run", "in", "--mask", "masks", "-m", model, "-o", "out", "--json", code=3).stdout)
    assert [each["source"] for each in document["failed"]] == ["in/b.png", "in/c.png"]
    assert error(run("run", "in/c.png", "--mask", "masks", "-m", model, code=1)).startswith("in/c.png has no mask")
