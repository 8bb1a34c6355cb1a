"""open_dataset: every kind of source, the splits, the report, and images that are left out."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeae.data import downloads
from edgeae.data.datasets import Dataset, open_dataset
from edgeae.data.folders import idx_files
from edgeae.data.generated_faces import generate
from edgeae.data.report import Report
from edgeae.errors import DataError, UsageError


def save(path: Path, width: int = 20, height: int = 20, value: int = 100, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), value if mode == "L" else (value, value // 2, 0)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images in three folders, image i of value i."""
    root = tmp_path / "photos"
    for i in range(10):
        save(root / ("", "cats", "cats/small")[i % 3] / f"{i}.png", value=i)
    return root


def values(dataset: Dataset) -> tuple[list[int], list[int]]:
    return dataset.train.inputs[:, 0, 0, 0].tolist(), dataset.val.inputs[:, 0, 0, 0].tolist()


def test_folder(folder: Path) -> None:
    dataset = open_dataset(folder, size=16)
    assert dataset.name == "photos"
    assert dataset.train.inputs.shape == (9, 16, 16, 3)
    assert dataset.train.inputs.dtype == np.uint8
    assert dataset.train.targets is None
    train, val = values(dataset)
    assert sorted(train + val) == list(range(10))
    for split, numbers in ((dataset.train, train), (dataset.val, val)):
        assert [Path(name).stem for name in split.names] == [str(number) for number in numbers]
        assert split.names == sorted(split.names)
    assert any(name == "cats/small/5.png" for name in dataset.train.names + dataset.val.names)


def test_images_are_fitted_as_by_pillow(tmp_path: Path) -> None:
    """Images are cropped about the centre and resized as by Pillow's own calls."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    expected = Image.fromarray(pixels).resize((12, 12), Image.Resampling.LANCZOS, box=(8, 0, 32, 24))
    np.testing.assert_array_equal(open_dataset(tmp_path, size=12).train.inputs[0], np.asarray(expected))


def test_the_split_follows_the_seed(folder: Path) -> None:
    first = values(open_dataset(folder, size=16, seed=1, val_fraction=0.3))
    assert first == values(open_dataset(folder, size=16, seed=1, val_fraction=0.3))
    assert 3 <= len(first[1]) <= 7  # each file decides for itself, within limits
    others = [values(open_dataset(folder, size=16, seed=seed, val_fraction=0.3)) for seed in range(2, 8)]
    assert any(other != first for other in others)


def test_two_images_are_split_one_and_one(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / f"{i}.png")
    dataset = open_dataset(tmp_path, size=16, val_fraction=0.01)
    assert (len(dataset.train), len(dataset.val)) == (1, 1)


@pytest.mark.parametrize(
    ("names", "val"), [("train val test", "val"), ("Train validation", "validation"), ("train test", "test")]
)
def test_sub_folders_are_the_splits(tmp_path: Path, names: str, val: str) -> None:
    for value, name in enumerate(names.split()):
        for i in range(3):
            save(tmp_path / name / "sub" / f"{i}.png", value=value * 10)
    dataset = open_dataset(tmp_path, size=16)
    assert values(dataset) == ([0] * 3, [10 * names.split().index(val)] * 3)
    assert dataset.val.names[0] == f"{val}/sub/0.png"
    assert ("not what else" in dataset.report.table()) == (len(names.split()) == 3)
    assert dataset.train.names[0].lower() == "train/sub/0.png"


def test_evaluation_takes_everything_or_the_validation_split(tmp_path: Path, folder: Path) -> None:
    everything = open_dataset(folder, size=16, val_fraction=1)
    assert (len(everything.train), len(everything.val)) == (0, 10)
    save(tmp_path / "one" / "a.png")
    assert len(open_dataset(tmp_path / "one", size=16, val_fraction=1).val) == 1
    for name in ("train", "val"):
        save(tmp_path / "split" / name / "a.png")
    dataset = open_dataset(tmp_path / "split", size=16, val_fraction=1)
    assert (dataset.train.names, dataset.val.names) == ([], ["val/a.png"])
    assert dataset.train.inputs.shape == (0, 16, 16, 3)


@pytest.mark.parametrize("limit", [2, 4, 50])
def test_limit(folder: Path, limit: int) -> None:
    dataset = open_dataset(folder, size=16, limit=limit)
    assert len(dataset.train) + len(dataset.val) == min(limit, 10)
    assert values(dataset) == values(open_dataset(folder, size=16, limit=limit))


def test_the_report_says_what_was_left_out(folder: Path) -> None:
    save(folder / "wide.jpg", 64, 32)
    save(folder / "icon.png", 7, 30)
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:40])
    (folder / "fake.jpg").write_text("not an image")
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.png").write_text("passed over")
    reports: list[Report] = []
    dataset = open_dataset(folder, size=24, report=reports.append)
    report = dataset.report
    assert reports == [report]
    assert (report.usable, report.train, report.val) == (11, 10, 1)
    assert report.enlarged == 10
    assert report.ignored == 1
    assert report.too_small == (("icon.png", "7×30 pixels; it takes 8 a side"),)
    assert [name for name, _ in report.unreadable] == ["cut.png", "fake.jpg"]
    assert report.widths == (20, 20, 64)
    assert report.heights == (20, 20, 32)
    assert json.loads(json.dumps(report.as_dict()))["usable"] == 11
    table = report.table()
    for text in (
        "11 (train 10, val 1)",
        "20×20 to 64×32",
        "icon.png: 7×30",
        "unreadable  2",
        "cut.png",
        "1 files that",
    ):
        assert text in table
    assert str(folder) not in table


def test_the_table_omits_rows_without_content() -> None:
    left_out = tuple((f"{i}.png", "is damaged") for i in range(100))
    table = Report("photos", 64, 5, 1, unreadable=left_out, widths=(64, 64, 64), heights=(64, 64, 64)).table()
    assert table.count("is damaged") == 5
    assert "and 95 more" in table
    assert "too small" not in table
    assert "64×64; fitted" in table


def test_too_few_images_are_reported_and_refused(tmp_path: Path) -> None:
    reports: list[Report] = []
    with pytest.raises(DataError, match="0 usable images"):
        open_dataset(tmp_path, size=16, report=reports.append)
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no")
    with pytest.raises(DataError, match=r"1 usable images \(b\.png: "):
        open_dataset(tmp_path, size=16, report=reports.append)
    assert [report.usable for report in reports] == [0, 1]
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
    for i in range(3):
        save(tmp_path / "train" / f"{i}.png")
    with pytest.raises(DataError, match="no usable image for val"):
        open_dataset(tmp_path, size=16)
    with pytest.raises(DataError, match="no usable image"):
        open_dataset(tmp_path, size=16, val_fraction=1)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_symbolic_links_in_a_loop_are_followed_once(folder: Path, tmp_path: Path) -> None:
    (folder / "cats" / "loop").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    save(tmp_path / "elsewhere" / "new.png", value=77)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    dataset = open_dataset(folder, size=16)
    train, val = values(dataset)
    assert sorted(train + val) == [*range(10), 77]
    assert [name for name, _ in dataset.report.unreadable] == ["gone.png", "self"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
def test_a_named_pipe_is_not_read(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    assert open_dataset(folder, size=16).report.unreadable == (("pipe.png", "is not a regular file"),)


def test_inputs_are_matched_with_targets(tmp_path: Path) -> None:
    for i in range(6):
        save(tmp_path / "in" / "sub" / f"{i}.png", value=i)
        save(tmp_path / "out" / "sub" / f"{i}.jpg", 40, 40, value=50 + 10 * i, mode="L")
    save(tmp_path / "in" / "alone.png")
    save(tmp_path / "out" / "sub" / "orphan.png")
    save(tmp_path / "in" / "wide.png")
    save(tmp_path / "out" / "wide.png", 40, 20)
    dataset = open_dataset(tmp_path / "in", size=16, targets=tmp_path / "out")
    for split in (dataset.train, dataset.val):
        assert split.targets is not None
        assert split.targets.shape == (len(split), 16, 16, 1)  # every target is grey
        number = split.inputs[:, 0, 0, 0].astype(int)
        assert np.abs(split.targets[:, 8, 8, 0] - (50 + 10 * number)).max() <= 1
    assert [name for name, _ in dataset.report.unmatched] == ["alone.png", "sub/orphan.png", "wide.png"]
    assert dataset.report.usable == 6


def test_pairs_in_split_folders_and_a_target_folder_among_the_inputs(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for i in range(2):
            save(tmp_path / "in" / part / f"{i}.png", value=i)
            save(tmp_path / "out" / part / f"{i}.png", value=100 + i)
    dataset = open_dataset(tmp_path / "in", size=16, targets=str(tmp_path / "out"))
    assert dataset.val.targets is not None
    assert dataset.val.targets[:, 0, 0, 0].tolist() == [100, 101]
    assert dataset.val.targets.shape == (2, 16, 16, 3)
    assert dataset.report.unmatched == ()

    for i in range(3):
        save(tmp_path / "mixed" / f"{i}.png")
        save(tmp_path / "mixed" / "masks" / f"{i}.png", mode="L")
    mixed = open_dataset(tmp_path / "mixed", size=16, targets=tmp_path / "mixed" / "masks")
    assert (mixed.report.usable, mixed.report.unmatched) == (3, ())

    (tmp_path / "out" / "val").rename(tmp_path / "out" / "test")
    with pytest.raises(DataError, match="no folder val"):
        open_dataset(tmp_path / "in", size=16, targets=tmp_path / "out")
    with pytest.raises(DataError, match="not a folder"):
        open_dataset(tmp_path / "in", size=16, targets=tmp_path / "nowhere")


def test_arrays_in_memory_and_in_files(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", images)
    np.savez_compressed(tmp_path / "a.npz", images=images.astype(np.float64) / 255)
    expected = open_dataset(images, size=16)
    assert expected.name == "array"
    assert (len(expected.train), len(expected.val)) == (18, 2)
    rows = [int(name[6:-1]) for name in expected.train.names]
    np.testing.assert_array_equal(expected.train.inputs, images[rows])
    for name in ("a.npy", "a.npz"):
        found = open_dataset(tmp_path / name, size=16)
        np.testing.assert_array_equal(found.train.inputs, expected.train.inputs)
        np.testing.assert_array_equal(found.val.inputs, expected.val.inputs)
        assert found.name == name


def test_arrays_are_fitted_and_limited(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2500, 10, 12), 0.2, np.float32))
    dataset = open_dataset(str(tmp_path / "a.npy"), size=16, channels=3, limit=2100)
    assert dataset.train.inputs.shape == (1890, 16, 16, 3)
    assert set(np.unique(dataset.train.inputs)) == {51}
    assert dataset.report.enlarged == 2100
    assert dataset.report.widths == (12, 12, 12)


def test_array_splits_and_targets(tmp_path: Path) -> None:
    train, val = np.zeros((4, 16, 16), np.uint8), np.full((2, 16, 16), 9, np.uint8)
    np.savez(tmp_path / "in.npz", train=train, val=val)
    np.savez(tmp_path / "out.npz", train=train + 1, val=val + 1)
    dataset = open_dataset(tmp_path / "in.npz", size=16, channels=1, targets=tmp_path / "out.npz")
    assert values(dataset) == ([0] * 4, [9] * 2)
    assert dataset.val.targets is not None
    assert dataset.val.targets[..., 0].tolist() == (val + 1).tolist()
    np.savez(tmp_path / "short.npz", train=train[:3], val=val)
    with pytest.raises(DataError, match="3 images"):
        open_dataset(tmp_path / "in.npz", size=16, targets=tmp_path / "short.npz")
    with pytest.raises(DataError, match="is not a file"):
        open_dataset(tmp_path / "in.npz", size=16, targets=tmp_path)
    np.save(tmp_path / "one.npy", train)
    with pytest.raises(DataError, match="holds all"):
        open_dataset(tmp_path / "in.npz", size=16, targets=tmp_path / "one.npy")


def write_idx(path: Path, images: np.ndarray) -> None:
    path.write_bytes(struct.pack(">IIII", 0x803, *images.shape) + images.tobytes())


def test_idx_file_and_idx_folder(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    write_idx(tmp_path / "train-images-idx3-ubyte", images[:8])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 8) + bytes(8))
    alone = open_dataset(tmp_path, size=28, channels=1)
    assert (len(alone.train), len(alone.val)) == (7, 1)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", images[8:])
    both = open_dataset(tmp_path, size=28, channels=1)
    np.testing.assert_array_equal(both.train.inputs[..., 0], images[:8])
    np.testing.assert_array_equal(both.val.inputs[..., 0], images[8:])
    single = open_dataset(tmp_path / "train-images-idx3-ubyte", size=28, channels=1)
    assert single.report.usable == 8
    with pytest.raises(DataError, match="holds labels"):
        open_dataset(tmp_path / "train-labels-idx1-ubyte", size=28)
    write_idx(tmp_path / "empty", images[:0])
    with pytest.raises(DataError, match="holds no pixels"):
        open_dataset(tmp_path / "empty", size=28)


def test_faces_are_generated_and_the_splits_differ() -> None:
    dataset = open_dataset("faces", size=16, limit=20, seed=3)
    assert (len(dataset.train), len(dataset.val)) == (18, 2)
    assert dataset.name == "faces"
    train_seed, val_seed = np.random.SeedSequence(3).generate_state(2).tolist()
    np.testing.assert_array_equal(dataset.train.inputs, generate(18, 16, train_seed)[0])
    np.testing.assert_array_equal(dataset.val.inputs, generate(2, 16, val_seed)[0])
    assert not any((dataset.train.inputs == image).all(axis=(1, 2, 3)).any() for image in dataset.val.inputs)


def test_a_built_in_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(2):
        save(tmp_path / "faces" / f"{i}.png", value=200)
    monkeypatch.chdir(tmp_path)
    built_in = open_dataset("faces", size=16, limit=2)
    assert "./faces" in built_in.report.table()
    for path in ("./faces", Path("faces")):
        assert values(open_dataset(path, size=16)) == ([200], [200])
    with pytest.raises(UsageError, match="`targets`"):
        open_dataset("faces", size=16, targets="faces")


@pytest.mark.parametrize("data", ["nowhere", "photo.png", "notes.txt"])
def test_a_path_without_a_dataset_is_one_sentence(tmp_path: Path, data: str) -> None:
    save(tmp_path / "photo.png")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=data) as caught:
        open_dataset(tmp_path / data, size=16)
    assert "\n" not in str(caught.value)
    if data == "nowhere":
        assert all(name in str(caught.value) for name in ("faces", *downloads.DATASETS))


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": 4},
        {"size": 16, "channels": 4},
        {"size": 16, "val_fraction": 0},
        {"size": 16, "val_fraction": 1.1},
        {"size": 16, "limit": 1},
    ],
)
def test_arguments_out_of_range_are_refused(folder: Path, arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        open_dataset(folder, **arguments)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_with_the_name_of_an_idx_file_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train-images-idx3-ubyte")
    assert idx_files(tmp_path) == {}
