"""What a mask means, and what is refused or told. (Ways to save one: test_mask_ways. Folders: test_mask_pairs.)"""

import io
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from helpers import FileFactory, run
from helpers.masks import (
    DAMAGED,
    FULL,
    GRAY,
    HEIGHT,
    HOLE,
    NOISE,
    PLAIN,
    RGB,
    SOFT,
    WIDTH,
    ZERO,
    Way,
    palette,
    pixels,
    repair,
    save,
    stack,
)
from PIL import Image, ImageOps

from edgeae.errors import ImageError, UsageError
from edgeae.images.files.reader import Photo
from edgeae.inference.load import load
from edgeae.inference.masks import Mask, MaskSource, require_marks
from edgeae.inference.photo import restore
from edgeae.inference.picture import ArrayPicture
from edgeae.inference.session import Session

ORIENTATION = 0x0112
STROKES = "what is painted on its transparent layer"


@pytest.fixture
def session(tiny_file: FileFactory, device: str) -> Session:
    """A random tiny `conv`, which no test here runs."""
    return load(tiny_file("conv", size=64), device)


# ---- what is refused, and what is told ---------------------------------------------------------------------------

REFUSED: dict[str, tuple[Way, str]] = {
    "white everywhere": (Way(FULL), "is white everywhere"),
    "254 and 255": (Way(np.maximum(PLAIN, 254)), "is white everywhere"),
    "white and opaque": (Way(stack(FULL, FULL, FULL, FULL)), "is white everywhere"),
    "classes": (Way(np.where(HOLE, NOISE[..., 0] % 3 + 1, 0)), "values of up to 3 of 255"),
    "two odd colors": (Way(palette((30, 60, 90), (200, 180, 20))), "has colors that do not tell"),
    "a gray copy of the photo": (Way(DAMAGED.mean(axis=-1)), "looks like the photo itself"),
    "a gray JPEG of the photo": (Way(DAMAGED.mean(axis=-1), "jpg"), "looks like the photo itself"),
    "another photo": (Way(NOISE), "is a picture and no mask"),
    "strokes on the photo": (Way(np.where(HOLE[..., None], [255, 0, 0], DAMAGED)), "is a picture and no mask"),
    "white layer with erased damage": (Way(stack(FULL, FULL, FULL, 255 - PLAIN)), "or damage that was erased"),
    "black layer with erased damage": (Way(stack(ZERO, ZERO, ZERO, 255 - PLAIN)), "or damage that was erased"),
    "float TIFF of 0 to 255": (Way(PLAIN.astype(np.float32), "tif"), "float pixels outside 0 to 1"),
    "more of the photo erased than kept": (
        Way(np.dstack([DAMAGED, np.where(np.arange(WIDTH) < 40, FULL, ZERO)])),
        "is transparent in more than half",
    ),
}


@pytest.mark.parametrize("situation", REFUSED)
def test_refused_in_one_sentence(session: Session, situation: str, tmp_path: Path) -> None:
    way, says = REFUSED[situation]
    mask = save(tmp_path / f"mask.{way.kind}", way.image)
    with pytest.raises(ImageError, match=says) as error:
        repair(session, save(tmp_path / "photo.png", DAMAGED), mask, tmp_path / "x.png")
    assert str(error.value).startswith(str(mask)) and str(error.value).endswith(".") and "\n" not in str(error.value)
    assert not (tmp_path / "x.png").exists()


TOLD: dict[str, tuple[Way, str]] = {
    "black": (Way(ZERO), "the mask is empty, its values are all 0 of 255: nothing is replaced"),
    "black that is 16": (Way(ZERO + 16), "its values are all 16 of 255"),
    "black JPEG": (Way(ZERO, "jpg"), "the mask is empty"),
    "an empty layer": (Way(stack(ZERO, ZERO, ZERO, ZERO)), "the mask is empty"),
    "an empty white layer": (Way(stack(FULL, FULL, FULL, ZERO)), "the mask is empty"),
    "inverted": (Way(255 - PLAIN), "of the picture: if black marks the damage, invert it"),
    "strokes of half opacity": (Way(stack(FULL, ZERO, ZERO, PLAIN // 2)), "value is 127 of 255: no more than 50%"),
    "a gray background": (Way(np.where(HOLE, 255, 60)), "lowest value replaces 24% everywhere"),
    "a gray photo": (Way(NOISE.mean(axis=-1)), "of the mask is gray, and replaced in part"),
    "a class beside a white border": (
        Way(np.where(HOLE, 1, np.where(np.arange(WIDTH) < 3, 255, 0))),
        "values of up to 1 count as black",
    ),
    "two classes beside a gray one": (Way(np.where(HOLE, NOISE[..., 0] % 2 * 10 + 5, 0) + 90 * np.eye(HEIGHT, WIDTH)),
        "count as black"),
    "black corrections of white strokes": (
        Way(np.dstack([np.where(np.arange(WIDTH)[:, None] < 50, 255, 0) * np.ones((HEIGHT, 1, 3)), PLAIN])),
        "the white on its transparent layer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("situation", TOLD)
def test_told_in_the_note(session: Session, situation: str, tmp_path: Path) -> None:
    way, says = TOLD[situation]
    source, mask = save(tmp_path / "photo.png", DAMAGED), save(tmp_path / f"mask.{way.kind}", way.image)
    assert says in repair(session, source, mask, tmp_path / "x.png").note
    if "empty" in says or "all 16" in says:
        assert np.array_equal(pixels(tmp_path / "x.png"), DAMAGED)


@pytest.mark.parametrize("situation", [name for name in TOLD if "black" in name[:5] or "empty" in name])
def test_the_only_mask_of_a_run_marks_something(situation: str, tmp_path: Path) -> None:
    way = TOLD[situation][0]
    mask = save(tmp_path / f"mask.{way.kind}", way.image)
    if "corrections" in situation:
        require_marks(mask)
        return
    with pytest.raises(ImageError, match=r"(black|transparent) everywhere, which marks nothing: paint the damage"):
        require_marks(mask)


# ---- what gray means ---------------------------------------------------------------------------------------------


def shares(mask: MaskSource, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, str]:
    """The share of each pixel, of 255, and the note."""
    picture = ArrayPicture(np.zeros((height, width, 1), np.uint8), "L")
    with ExitStack() as opened:
        understood = Mask(mask, picture)
        return understood.open(opened)(height)[..., 0], understood.note


def test_a_value_is_a_share() -> None:
    ramp = np.zeros((8, 256), np.uint8)
    ramp[2] = np.arange(256)
    got, note = shares(ramp, 8, 256)
    value = ramp / 255
    assert np.array_equal(got, np.where(value < 0.1, 0, np.where(value >= 0.9, 255, ramp))) and note == ""


@pytest.mark.parametrize(("value", "lost"), [(20, False), (60, False), (64, True), (130, True), (255, True)])
def test_from_a_quarter_on_a_pixel_is_lost(session: Session, value: int, lost: bool, tmp_path: Path) -> None:
    """What it shows is not given to the network."""
    seen: list[np.ndarray] = []

    def network(x: np.ndarray) -> np.ndarray:
        seen.append(x[:HEIGHT, :WIDTH])
        return x

    mask = np.where(HOLE, value, 0).astype(np.uint8)
    mask[0, 0] = 255
    source = save(tmp_path / "photo.png", DAMAGED)
    restore(source, tmp_path / "x.png", session, mask=save(tmp_path / "mask.png", mask), network=network)
    inside = HOLE.copy()
    inside[0, 0] = False
    assert (np.rint(seen[-1] * 255)[inside] == 255).all() != lost


@pytest.mark.parametrize("quality", [30, 50, 75, 90])
def test_noise_of_compression_leaves_no_trace(quality: int) -> None:
    file = io.BytesIO()
    GRAY.save(file, "JPEG", quality=quality)
    for source in (file.getvalue(), np.asarray(Image.open(file))):
        assert np.array_equal(shares(source)[0], PLAIN)


@pytest.mark.parametrize("background", [0, 255])
def test_colors_in_a_jpeg(background: int) -> None:
    """It keeps them at half the resolution: all or nothing, and most of it right."""
    file = io.BytesIO()
    Image.fromarray(np.where(HOLE[..., None], [255, 0, 255], background).astype(np.uint8)).save(
        file, "JPEG", quality=90
    )
    got = shares(file.getvalue())[0]
    assert set(np.unique(got)) == {0, 255} and ((got > 0) & HOLE).sum() > 0.7 * ((got > 0) | HOLE).sum()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_soft_edges_stay_soft(kind: str) -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    wide = np.rint(255 * np.exp(-((x - 50) ** 2 + (y - 40) ** 2) / 400)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, kind)
    assert np.abs(shares(file.getvalue())[0].astype(int) - shares(wide)[0]).mean() < 2
    assert (shares(file.getvalue())[0] % 255 > 0).mean() > 0.2


def test_alpha_of_soft_brushes() -> None:
    expected = shares(SOFT)[0]
    for way in (stack(FULL, FULL, FULL, SOFT), stack(SOFT, SOFT, SOFT, SOFT), stack(ZERO, ZERO, FULL, SOFT)):
        assert np.array_equal(shares(way)[0], expected)
    assert len(np.unique(expected)) > 50


# ---- sizes and orientations --------------------------------------------------------------------------------------


def turned(path: Path, image: np.ndarray, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return save(path, image, exif=exif.tobytes())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn", ["upright", "with the photo's orientation", "as stored", "upright, orientation kept"])
def test_a_mask_of_a_turned_photo(session: Session, orientation: int, drawn: str, tmp_path: Path) -> None:
    source = turned(tmp_path / "photo.png", DAMAGED, orientation)
    stored = Image.fromarray(PLAIN)
    stored.getexif()[ORIENTATION] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored))
    path = tmp_path / "mask.png"
    if drawn == "upright":
        save(path, upright)
    elif drawn == "with the photo's orientation":
        turned(path, PLAIN, orientation)
    elif orientation < 5:
        pytest.skip("sizes do not tell")
    elif drawn == "as stored":
        save(path, PLAIN)
    else:
        turned(path, upright, orientation)
    result = repair(session, source, path, tmp_path / "x.png")
    after = pixels(tmp_path / "x.png")
    assert np.array_equal(after[~HOLE], DAMAGED[~HOLE]) and (after != DAMAGED)[HOLE].any(axis=-1).all()
    said = {"as stored": "as it is stored, and is turned with it", "upright, orientation kept": "the mask is upright"}
    if orientation in (2, 3, 4):
        said["upright"] = "as drawn on the photo as it is shown, upright"
    assert said.get(drawn, "") in result.note and bool(result.note) == (drawn in said)


@pytest.mark.parametrize(
    ("size", "mend"),
    [
        ((WIDTH // 2, HEIGHT // 2), f"resize the mask to {WIDTH}×{HEIGHT}"),
        ((WIDTH * 3, HEIGHT * 3), f"resize the mask to {WIDTH}×{HEIGHT}"),
        ((WIDTH - 1, HEIGHT), f"resize the mask to {WIDTH}×{HEIGHT}"),
        ((WIDTH + 1, HEIGHT + 1), f"resize the mask to {WIDTH}×{HEIGHT}"),
        ((HEIGHT, WIDTH), "turn the mask as the photo is shown"),
        ((50, 50), "make the mask as large as the photo"),
    ],
)
def test_sizes(session: Session, size: tuple[int, int], mend: str, tmp_path: Path) -> None:
    mask = save(tmp_path / "mask.png", Image.new("L", size))
    with pytest.raises(ImageError) as error:
        repair(session, save(tmp_path / "photo.png", DAMAGED), mask, tmp_path / "x.png")
    sizes = f"mask.png has {size[0]}×{size[1]} pixels and {tmp_path / 'photo.png'} {WIDTH}×{HEIGHT}: "
    assert str(error.value).endswith(f"{sizes}{mend}.")


# ---- sources -----------------------------------------------------------------------------------------------------


def test_arrays_bytes_and_images() -> None:
    file = io.BytesIO()
    GRAY.save(file, "PNG")
    sources: list[MaskSource] = [
        HOLE, PLAIN, PLAIN[..., None], HOLE.astype(np.int64), PLAIN.astype(np.int32), HOLE.astype(np.float32),
        HOLE.astype(float)[..., None], HOLE * np.uint16(65_535), stack(PLAIN, PLAIN, PLAIN, PLAIN),
        np.dstack([HOLE] * 3), np.dstack([HOLE] * 3).astype(np.float32), GRAY, RGB, file.getvalue(),
        io.BytesIO(file.getvalue()),
    ]  # fmt: skip
    for source in sources:
        assert np.array_equal(shares(source)[0], PLAIN)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (PLAIN.astype(np.float32), "scale them to 0 to 1"),
        (-HOLE.astype(int), "values from -1 to 0"),
        (PLAIN.astype(np.int64) * 1000, "values from 0 to 255000"),
        (np.zeros((3, HEIGHT, WIDTH, 1), bool), "shape"),
        (np.zeros((HEIGHT, WIDTH, 5), bool), "shape"),
        (np.zeros(7, bool), "shape"),
        (PLAIN[:40], r"The mask has 112×40 pixels and The array 112×80"),
        (np.where(HOLE, np.nan, 0), "."),
        (np.full((HEIGHT, WIDTH), "x"), "."),
    ],
)
def test_arrays_that_are_no_masks(array: np.ndarray, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        shares(array)


class Tensor:
    """A tensor of another library, as a model of segmentation gives it."""

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return HOLE


@pytest.mark.parametrize("mask", [[[0, 1]], 7, {"mask": 1}, io.StringIO("x")], ids=["list", "number", "dict", "text"])
def test_objects_that_are_no_masks(mask: object) -> None:
    assert np.array_equal(shares(Tensor())[0], PLAIN)  # type: ignore[arg-type]
    with pytest.raises(
        ImageError, match=r"A mask cannot be read from a \w+: give a path, bytes, a PIL image or an array"
    ):
        shares(mask)  # type: ignore[arg-type]


def test_the_mask_is_not_replaced_by_the_result(session: Session, tmp_path: Path) -> None:
    source, mask = save(tmp_path / "photo.png", DAMAGED), save(tmp_path / "mask.png", PLAIN)
    with pytest.raises(UsageError, match="would replace the mask"):
        repair(session, source, mask, tmp_path / ".." / tmp_path.name / "mask.png")
    assert np.array_equal(pixels(mask), PLAIN)


def test_a_photo_is_not_its_own_mask(session: Session, tmp_path: Path) -> None:
    source = save(tmp_path / "photo.png", DAMAGED)
    (tmp_path / "link.png").symlink_to(source)
    for mask in (source, tmp_path / "link.png", str(source)):
        with pytest.raises(ImageError, match="is its own mask"):
            repair(session, source, mask, tmp_path / "x.png")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_the_memory_for_a_large_mask_is_bounded(mode: str, tmp_path: Path) -> None:
    image = Image.new(mode, (2000, 3000))
    image.paste(255 if mode == "L" else (255,) * len(mode), (100, 2000, 900, 2010))
    image.save(tmp_path / "mask.png", compress_level=1)
    Image.new("L", (2000, 3000), 200).save(tmp_path / "photo.png", compress_level=1)
    with Photo(tmp_path / "photo.png") as large, ExitStack() as opened:
        tracemalloc.start()
        read = Mask(tmp_path / "mask.png", large).open(opened)
        lost = sum(int((read(64) == 255).sum()) for _ in range(47))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert lost == 8000 and peak < 24 << 20


# ---- the command -------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_understood(
    tmp_path: Path, tiny_file: FileFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny_file("conv")
    save(Path("photo.png"), DAMAGED)
    save(Path("strokes.png"), stack(FULL, FULL, FULL, PLAIN))
    assert f"({'the mask is ' + STROKES})" in run("run", "photo.png", "--mask", "strokes.png", "-m", model).stdout


COMMANDS: dict[str, tuple[list[str], int, str]] = {
    "standard input": (["photo.png", "--mask", "-"], 2, "--mask takes a file or a folder, not standard input."),
    "no such file": (["photo.png", "--mask", "gone.png"], 1, "gone.png does not exist: check the name of the mask."),
    "no such file, for a folder": (["in", "--mask", "gone.png"], 1, "gone.png does not exist"),
    "the photo itself": (["photo.png", "--mask", "photo.png"], 1, "photo.png is its own mask"),
    "the folder itself": (
        ["in", "--mask", "in"],
        2,
        "in is the folder of the photos, or above it: name a folder of masks alone with --mask.",
    ),
    "a folder without the photo's": (["photo.png", "--mask", "in"], 1, "photo.png has no mask of its name in in"),
    "no image": (["in", "--mask", "text.png"], 1, "text.png is not an image that can be read"),
    "one mask, several sizes": (["in", "--mask", "mask.png"], 3, "1 of 2 images could not be restored."),
    "empty": (["photo.png", "--mask", "empty.png"], 1, "empty.png is black everywhere, which marks nothing"),
    "empty, and a pipe": (["photo.png", "--mask", "empty.png", "-o", "-"], 1, "empty.png is black everywhere"),
    "a folder, and a pipe": (["photo.png", "--mask", "in", "-o", "-"], 1, "in is a folder: name an image file in it."),
}


@pytest.mark.parametrize("situation", COMMANDS)
def test_one_sentence_each(
    situation: str, tmp_path: Path, tiny_file: FileFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    save(Path("photo.png"), DAMAGED)
    save(Path("in/a.png"), DAMAGED)
    save(Path("in/b.png"), DAMAGED[:40])
    save(Path("mask.png"), PLAIN)
    save(Path("empty.png"), ZERO)
    Path("text.png").write_text("no picture")
    arguments, code, says = COMMANDS[situation]
    result = run("run", *arguments, "-m", tiny_file("conv"), code=code)
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"edgeae: {says}") and last.endswith(".") and "Traceback" not in result.output
