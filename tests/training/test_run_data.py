"""A run and its data: found again from any folder, changes told, and pictures of runs left out."""

import errno
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import photo
from helpers.training import settings_for, small_config
from PIL import Image

from edgeae.config import ModelConfig, TrainConfig
from edgeae.data.datasets import open_dataset
from edgeae.data.folders import is_run_folder
from edgeae.errors import DataError, EdgeaeError, TrainingError, UsageError
from edgeae.exporting.weights import export
from edgeae.network import weight_file
from edgeae.training.loop import TrainResult, train
from edgeae.training.run_data import reopen
from edgeae.training.run_folder import find_run, read_files, read_record, read_run


def save(folder: Path, *seeds: int, mode: str = "RGB") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        Image.fromarray(photo(16, 16, seed=seed)).convert(mode).save(folder / f"{seed}.png")


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., ModelConfig]) -> ModelConfig:
    return small_config(tiny_config, "conv")


@pytest.fixture(scope="module")
def project(device: str, config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and `runs/first`, a run of one of two epochs; tests work on copies."""
    folder = tmp_path_factory.mktemp("project")
    save(folder / "photos", *range(12))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(config, settings(epochs=1), "runs/first", device=device)
    return folder


def settings(**changes: Any) -> TrainConfig:
    return settings_for("conv", **{"data": "photos", "limit": None, "epochs": 2, **changes})


@pytest.fixture
def copy(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project elsewhere; the current folder is another one, with other photos."""
    shutil.copytree(project, tmp_path / "copy")
    record = json.loads((tmp_path / "copy/runs/first/config.json").read_text())
    record["data_record"]["path"] = str(tmp_path / "copy" / "photos")
    (tmp_path / "copy/runs/first/config.json").write_text(json.dumps(record))
    save(tmp_path / "here" / "photos", *range(50, 62))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "copy"


def go_on(run: Path, device: str, epochs: int = 2, **changes: Any) -> TrainResult:
    options = {name: changes.pop(name) for name in ("changed_data",) if name in changes}
    model, stored = read_run(run)
    return train(model, replace(stored, epochs=epochs, **changes), run, device=device, resume=True, **options)


def test_what_a_run_keeps_of_its_data(project: Path) -> None:
    record = read_record(project / "runs" / "first")
    assert record is not None
    assert (record.path, record.near_path) == (str(project / "photos"), "../../photos")
    assert (record.images, record.split, len(record.digest)) == (12, "file", 32)
    files = read_files(project / "runs" / "first")
    assert {file.name for file in files} == {f"{i}.png" for i in range(12)} and {f.part for f in files} == {
        "train",
        "val",
    }


@pytest.mark.parametrize("given", ["", "last.safetensors", "best.safetensors", "config.json", "metrics.csv"])
def test_a_run_is_named_by_any_of_its_files(project: Path, given: str) -> None:
    run = project / "runs" / "first"
    assert find_run(run / given) == run and read_run(run / given)[1].epochs == 1


def test_a_path_that_is_no_run_says_what_it_is(project: Path, tmp_path: Path) -> None:
    shutil.copy(project / "runs/first/last.safetensors", tmp_path / "w.safetensors")
    for path, said in (
        (project / "runs", "holds the runs .*first"),
        (tmp_path / "gone", "does not exist"),
        (tmp_path / "w.safetensors", "no config.json beside it; begin a new run with `start`"),
        (project / "photos", "holds no run to resume"),
    ):
        with pytest.raises(TrainingError, match=said):
            find_run(path)


@pytest.mark.parametrize("how", ["elsewhere", "moved together", "data moved", "linked", "an npz file"])
def test_the_same_data_from_any_folder(
    copy: Path, device: str, config: ModelConfig, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, changes = copy / "runs" / "first", {}
    if how == "moved together":
        copy = copy.rename(copy.with_name("moved"))
        run = copy / "runs" / "first"
    elif how == "data moved":
        (copy / "photos").rename(copy / "pictures")
        changes["data"] = str(copy / "pictures")
    elif how == "linked":
        (copy / "photos").rename(copy / "pictures")
        (copy / "photos").symlink_to(copy / "pictures")
    elif how == "an npz file":
        monkeypatch.chdir(copy)
        np.savez("a.npz", images=np.stack([photo(16, 16, seed=seed) for seed in range(12)]))
        run = copy / "of arrays"
        train(config, settings(data="a.npz", epochs=1), run, device=device)
        monkeypatch.chdir("/")
    _, stored = read_run(run)
    data = reopen(run, read_run(run)[0], replace(stored, **changes))
    assert (data.changes, data.notes) == ("", ())
    assert data.dataset.path is not None and data.dataset.path.is_relative_to(copy)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "added": (lambda photos: save(photos, 77), r"1 added \(77.png\)"),
    "removed": (lambda photos: (photos / "3.png").unlink(), r"1 removed \(3.png\)"),
    "replaced": (lambda photos: shutil.copy(photos / "3.png", photos / "4.png"), r"1 changed \(4.png\)"),
    "damaged": (lambda photos: (photos / "5.png").write_bytes(b"no"), r"1 removed \(5.png\)"),
    "in a new folder": (lambda photos: save(photos / "new", 70, 71), r"2 added \(new/70.png, new/71.png\)"),
    "renamed": (lambda photos: (photos / "3.png").rename(photos / "z.png"), ""),
}


@pytest.mark.parametrize("change, said", CHANGES.values(), ids=CHANGES)
def test_changed_data_are_told(copy: Path, change: Callable[[Path], object], said: str) -> None:
    change(copy / "photos")
    run = copy / "runs" / "first"
    before = {(m.part, m.digest) for m in read_files(run)}
    data = reopen(run, *read_run(run))
    if said:
        assert re.fullmatch(said, data.changes)
    else:
        assert data.changes == "" and "the same under other names: 1 renamed (3.png to z.png)" in data.notes[0]
    parts = {digest: part for part, digest in before}
    assert all(parts.get(m.digest, m.part) == m.part for m in data.dataset.members)  # none changed sides


def test_changed_data_are_refused_unless_meant(copy: Path, device: str) -> None:
    run = copy / "runs" / "first"
    save(copy / "photos", *range(100, 130))
    with pytest.raises(TrainingError, match=r"changed \(30 added \(100.png, .*…\)\): go on with `changed_data`"):
        go_on(run, device)
    result = go_on(run, device, changed_data=True)
    assert len(result.rows) == 2 and result.best["epoch"] == 2  # scores on other images are not compared
    assert any("best-until-1.safetensors" in note for note in result.notes)
    assert (run / "best-until-1.safetensors").exists() and read_record(run).best_after == 1  # type: ignore[union-attr]
    assert go_on(run, device, epochs=3).best["epoch"] in (2, 3)  # and now these are its data


def test_gone_data_name_the_mend(copy: Path, device: str) -> None:
    (copy / "photos").rename(copy / "pictures")
    run = copy / "runs" / "first"
    with pytest.raises(DataError, match="photos, cannot be found: name it with `data`"):
        go_on(run, device)
    with pytest.raises(DataError, match="cannot be found: name it with `data`"):
        export(run, copy / "e.safetensors", device=device)
    assert export(run, copy / "e.safetensors", data=str(copy / "pictures"), device=device).data == "pictures"
    (copy / "photos").mkdir()  # where a disk is mounted at other times
    with pytest.raises(DataError, match=r"0 usable images .* began with 12 images: if they are elsewhere, .* `data`"):
        go_on(run, device)


def test_a_finished_run_says_so_and_goes_on_for_longer(copy: Path, device: str) -> None:
    run = copy / "runs" / "first"
    (copy / "photos").rename(copy / "away")  # nothing is left to do: no data are needed
    assert "has all its 1 epochs; `epochs` 2 goes on" in go_on(run, device, epochs=1).notes[0]
    (copy / "away").rename(copy / "photos")
    shutil.copytree(run, copy / "other")
    assert len(go_on(run, device, epochs=3).rows) == 3
    go_on(copy / "other", device, epochs=3)
    assert (run / "last.safetensors").read_bytes() == (copy / "other/last.safetensors").read_bytes()
    assert "has all its 3 epochs" in go_on(run, device, epochs=2).notes[0]


def test_a_file_system_without_locks_trains_all_the_same(
    copy: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert len(go_on(copy / "runs" / "first", device).rows) == 2


def test_a_full_disk_leaves_a_run_that_goes_on(copy: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copy / "runs" / "first"

    def fail(*arguments: object) -> None:
        raise EdgeaeError("last.safetensors cannot be written: the disk is full")

    with monkeypatch.context() as patch, pytest.raises(EdgeaeError, match="disk is full"):
        patch.setattr(weight_file, "write", fail)
        go_on(run, device)
    assert len(go_on(run, device).rows) == 2


def test_a_model_of_pairs_is_exported_where_its_pairs_were_moved(
    device: str, config: ModelConfig, tmp_path: Path
) -> None:
    save(tmp_path / "in", *range(6))
    save(tmp_path / "out", *range(6))
    pairs = settings(data=str(tmp_path / "in"), targets=str(tmp_path / "out"), corrupt="none", epochs=1)
    train(config, pairs, tmp_path / "run", device=device)
    (tmp_path / "out").rename(tmp_path / "wanted")
    best = tmp_path / "run" / "best.safetensors"
    with pytest.raises(DataError, match=r"the targets of .*, cannot be found: name it with `targets`"):
        export(best, tmp_path / "e.safetensors", device=device)
    report = export(
        best, tmp_path / "e.safetensors", data=str(tmp_path / "in"), targets=str(tmp_path / "wanted"), device=device
    )
    assert report.images == 6


def test_settings_that_contradict_the_run_are_refused(copy: Path, device: str) -> None:
    run = copy / "runs" / "first"
    for changes in ({"lr": 0.1}, {"batch": 4}, {"corrupt": "noise"}, {"seed": 5}, {"augment": False}):
        name = next(iter(changes))
        with pytest.raises(UsageError, match=f"`{name}` .* contradicts .*, which has"):
            go_on(run, device, **changes)
    model, stored = read_run(run)
    with pytest.raises(UsageError, match="another network"):
        train(replace(model, code=7), stored, run, device=device, resume=True)


def test_a_run_of_an_older_version_resumes(copy: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no record: its split goes by place, and its damaged images' score tells other photos."""
    run = copy / "runs" / "first"
    document = json.loads((run / "config.json").read_text())
    del document["data_record"]
    (run / "config.json").write_text(json.dumps(document))
    model, stored = read_run(run)
    data = reopen(run, model, stored)  # what the current folder has under that name
    assert data.record.split == "position" and not data.is_recorded
    assert data.record.path == str(Path.cwd() / "photos") and "does not say where its data are" in data.notes[0]
    with pytest.raises(TrainingError, match="has other validation images: damaged, they score"):
        go_on(run, device)
    monkeypatch.chdir("/")  # where there is nothing of that name: a folder above the run has it
    assert reopen(run, model, stored).record.path == str(copy / "photos")


def test_other_images_of_the_same_number_without_a_list_of_files(copy: Path) -> None:
    run = copy / "runs" / "first"
    (run / "files.csv").unlink()
    shutil.copy(copy / "photos/1.png", copy / "photos/2.png")
    assert reopen(run, *read_run(run)).changes == "other images"


def test_a_run_of_an_older_version_that_is_called_like_its_data(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = (copy / "runs" / "first").rename(copy / "runs" / "photos")
    document = json.loads((run / "config.json").read_text())
    del document["data_record"]
    (run / "config.json").write_text(json.dumps(document))
    model, stored = read_run(run)
    for place in ("/", copy / "runs"):
        monkeypatch.chdir(place)
        assert reopen(run, model, stored).record.path == str(copy / "photos")


def test_pictures_of_runs_are_no_data(copy: Path) -> None:
    photos, run = copy / "photos", copy / "runs" / "first"
    shutil.copytree(run, photos / "runs" / "first")
    shutil.copytree(run, photos / "sub" / "deep" / "run")
    for name in ("config.json", "preview.png", "curves.png"):  # `-o` was the data themselves
        shutil.copy(run / name, photos / name)
    (photos / "camera").mkdir()
    (photos / "camera" / "config.json").write_text('{"iso": 100}')
    save(photos / "camera", 200)
    dataset = open_dataset(photos, size=16)
    assert sorted(dataset.train.names + dataset.val.names) == sorted(
        [*(f"{i}.png" for i in range(12)), "camera/200.png"]
    )
    assert "6 pictures of training runs (., runs/first, sub/deep/run) passed over" in dataset.report.notes
    assert is_run_folder(run) and not is_run_folder(photos / "camera")


@pytest.mark.parametrize("gray", ["train", "val", "one of each", "both"])
def test_channels_are_decided_once(device: str, config: ModelConfig, tmp_path: Path, gray: str) -> None:
    for part in ("train", "val"):
        save(tmp_path / "in" / part, *range(4))
        is_gray = gray in (part, "both")
        save(tmp_path / "out" / part, *range(4), mode="L" if is_gray else "RGB")
        if gray == "one of each":
            save(tmp_path / "out" / part, 0, mode="L")
    dataset = open_dataset(tmp_path / "in", size=16, targets=tmp_path / "out")
    assert dataset.train.targets is not None and dataset.val.targets is not None
    count = 1 if gray == "both" else 3
    assert dataset.train.targets.shape == dataset.val.targets.shape == (4, 16, 16, count)
    if gray == "val":
        pairs = settings(data=str(tmp_path / "in"), targets=str(tmp_path / "out"), corrupt="none", epochs=1)
        assert train(config, pairs, tmp_path / "run", device=device).rows[0]["val_psnr"] > 0
        report = export(tmp_path / "run", tmp_path / "e.safetensors", device=device)
        assert report.images == 4 and report.notes == ()


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "I;16", "1", "CMYK"])
def test_targets_of_any_mode_have_the_same_channels(tmp_path: Path, mode: str) -> None:
    for part in ("train", "val"):
        save(tmp_path / "in" / part, *range(3))
        save(tmp_path / "out" / part, *range(3))
    picture = Image.fromarray(photo(16, 16, 1)[..., 0])
    odd = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)
    (tmp_path / "out" / "val" / "0.png").unlink()
    odd.save(tmp_path / "out" / "val" / ("0.tif" if mode == "CMYK" else "0.png"))
    dataset = open_dataset(tmp_path / "in", size=16, targets=tmp_path / "out")
    assert dataset.report.unmatched == dataset.report.unreadable == ()
    assert dataset.val.targets is not None and dataset.val.targets.shape == (3, 16, 16, 3)


@pytest.mark.parametrize("kind", ["the same bytes", "the same pixels", "in an array"])
def test_duplicates_across_the_split_are_told(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "data" / "train", *range(5))
    save(tmp_path / "data" / "val", 3, 9)
    data: Path = tmp_path / "data"
    if kind == "the same pixels":
        path = data / "val" / "3.png"
        Image.open(path).save(data / "val" / "3.tif")
        path.unlink()
    elif kind == "in an array":
        data = tmp_path / "a.npz"
        images = np.stack([photo(16, 16, seed=seed) for seed in range(6)])
        np.savez(data, train=images[:5], val=images[[3, 5]])
    (note,) = open_dataset(data, size=16).report.notes
    assert note.startswith("1 validation image is a duplicate of training images (") and "3" in note


def test_label_numbers_as_targets_are_told(tmp_path: Path) -> None:
    save(tmp_path / "in", *range(4))
    for seed in range(4):
        (tmp_path / "out").mkdir(exist_ok=True)
        Image.fromarray(np.uint8(photo(16, 16, seed=seed)[..., 0] > 99)).save(tmp_path / "out" / f"{seed}.png")
    assert "almost black" in open_dataset(tmp_path / "in", size=16, targets=tmp_path / "out").report.table()


@pytest.mark.parametrize("targets, said", [("photos", "folder of the inputs itself"), ("empty", "0 usable images")])
def test_targets_that_fit_nothing_are_refused(copy: Path, targets: str, said: str) -> None:
    (copy / "empty").mkdir()
    with pytest.raises(EdgeaeError, match=said):
        open_dataset(copy / "photos", size=16, targets=copy / targets)
