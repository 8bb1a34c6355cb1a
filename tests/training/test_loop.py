"""Training runs: files and numbers, resuming after every kind of end, several devices, and what is refused."""

import csv
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT
from helpers.tiers import exhaustive, first_of
from helpers.training import EPOCHS, make_trainer, settings_for, small_config
from PIL import Image

from edgeae.config import ModelConfig
from edgeae.data.datasets import open_dataset
from edgeae.errors import DataError, EdgeaeError, TrainingError, UsageError, WeightsError
from edgeae.exporting.weights import export
from edgeae.inference import golden
from edgeae.inference.load import load
from edgeae.inference.session import Session
from edgeae.network import weight_file
from edgeae.training import checkpoint, run_folder
from edgeae.training.evaluation import Trial
from edgeae.training.loop import Progress, TrainResult, train
from edgeae.training.run_folder import COLUMNS, read_run

FILES = {"config.json", "last.safetensors", "best.safetensors", "metrics.csv", "preview.png", "curves.png", ".lock"}
Configs = Callable[[str], ModelConfig]
Runs = Callable[[str], TrainResult]


@pytest.fixture(scope="module")
def configs(tiny_config: Callable[..., ModelConfig]) -> Configs:
    """`configs(arch)`: the network that these tests train."""
    return lambda arch: small_config(tiny_config, arch)


@pytest.fixture(scope="module")
def runs(device: str, configs: Configs, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """`runs(arch)`: the result of a run that nothing stopped; tests only read its folder."""
    done: dict[str, TrainResult] = {}

    def get(arch: str) -> TrainResult:
        if arch not in done:
            folder = tmp_path_factory.mktemp("runs") / arch
            done[arch] = train(configs(arch), settings_for(arch), folder, device=device)
        return done[arch]

    return get


def state(run: Path, name: str = "last") -> dict[str, np.ndarray]:
    return weight_file.read(run / f"{name}.safetensors").tensors


def table(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_run(run: Path, other: Path) -> None:
    """Bit for bit: weights, optimizer state, best weights, pictures, and all of the table but the speed."""
    for name in ("last", "best"):
        ours, theirs = state(run, name), state(other, name)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            np.testing.assert_array_equal(value, theirs[key], err_msg=f"{name}: {key}")
    rows, others = table(run), table(other)
    for row in rows + others:
        row.pop("images_per_s")
    assert rows == others
    for name in ("preview.png", "curves.png"):
        assert (run / name).read_bytes() == (other / name).read_bytes()


# ---- what a run leaves -------------------------------------------------------------------------------------------


def test_the_loss_falls_and_the_rows_are_consistent(runs: Runs, arch: str) -> None:
    result = runs(arch)
    assert [row["epoch"] for row in result.rows] == list(range(1, EPOCHS + 1))
    losses = [row["loss"] for row in result.rows]
    assert losses[-1] < 0.95 * losses[0]
    assert result.best is max(result.rows, key=lambda row: row["val_psnr"])
    for row in result.rows:
        assert row["val_psnr"] == pytest.approx(-10 * math.log10(row["val_mse"]), rel=1e-9)
        assert row["images_per_s"] > 0
        assert math.isfinite(row["val_hole_psnr"])
        assert row["damaged_psnr"] == result.rows[0]["damaged_psnr"]
        if arch == "vae":
            assert row["kl"] > 0
            assert row["loss"] > row["recon"]
        else:
            assert math.isnan(row["kl"])
            assert row["loss"] == row["recon"]


def test_the_run_folder_holds_every_file(runs: Runs, arch: str) -> None:
    result = runs(arch)
    assert {path.name for path in result.run.iterdir()} == FILES
    model, settings = read_run(result.run)
    assert (model.arch, settings) == (arch, settings_for(arch))
    rows = table(result.run)
    assert list(rows[0]) == list(COLUMNS)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["val_psnr"]) for row in rows] == [row["val_psnr"] for row in result.rows]
    assert all((row["kl"] == "") == (arch != "vae") for row in rows)
    for name in ("preview.png", "curves.png"):
        with Image.open(result.run / name) as picture:
            picture.load()
            assert min(picture.size) > 50
            assert picture.convert("L").getextrema() != (255, 255)


def test_last_and_best_are_usable_weight_files(runs: Runs, arch: str, device: str) -> None:
    result = runs(arch)
    image = np.random.default_rng(0).random((16, 16, 3), np.float32)
    for name, row in (("last", result.rows[-1]), ("best", result.best)):
        ae = load(result.run / f"{name}.safetensors", device)
        assert ae.reconstruct(image).shape == image.shape
        assert ae.metadata["epoch"] == str(row["epoch"])
        assert ae.metadata["psnr"] == f"{row['val_psnr']:.3f}"
        assert (ae.metadata["arch"], ae.metadata["licence"], ae.metadata["train_data"]) == (arch, "CC0-1.0", "faces")
        # The scores of its row can be had again from the file.
        dataset = open_dataset("faces", size=16, limit=14, seed=0)
        found = Trial.prepare(dataset.val, "occlude", 0).evaluate(ae.run_floats)
        assert found.output.psnr == pytest.approx(row["val_psnr"], abs=1e-5)
    assert golden.verify(ae).passed
    assert not any(key.startswith("optimizer.") for key in state(result.run, "best"))


def test_progress_is_reported_after_every_step_and_epoch(device: str, configs: Configs, tmp_path: Path) -> None:
    seen: list[Progress] = []
    reports: list[object] = []
    result = train(
        configs("vae"),
        settings_for("vae", epochs=2),
        tmp_path,
        device=device,
        on_progress=seen.append,
        on_report=reports.append,
    )
    assert [(p.epoch, p.step, p.row is not None) for p in seen] == [
        (1, 1, False),
        (1, 2, False),
        (1, 2, True),
        (2, 1, False),
        (2, 2, False),
        (2, 2, True),
    ]
    assert all((p.epochs, p.steps) == (2, 2) and p.images_per_s > 0 for p in seen)
    assert all(p.seconds_left >= 0 for p in seen)
    assert seen[-1].seconds_left == 0
    assert seen[-1].row is result.rows[-1]
    assert [p.loss for p in seen if p.row is None and p.epoch == 2] != [0, 0]
    assert np.mean([p.loss for p in seen[:2]]) == pytest.approx(result.rows[0]["loss"], rel=1e-9)
    assert len(reports) == 1


# ---- stopping and resuming ---------------------------------------------------------------------------------------


class Stop(Exception):
    """Stops a run in these tests."""


@pytest.mark.parametrize(
    "arch, after_epoch", [("conv", False), ("vae", True), pytest.param("residual", False, marks=exhaustive)]
)
def test_a_run_stopped_by_an_exception_resumes_as_if_never_stopped(
    runs: Runs, arch: str, device: str, tmp_path: Path, after_epoch: bool
) -> None:
    def stop(progress: Progress) -> None:
        if progress.epoch == 3 and (progress.row is not None) == after_epoch:
            raise Stop

    model, settings = read_run(runs(arch).run)
    with pytest.raises(Stop):
        train(model, settings, tmp_path, device=device, on_progress=stop)
    assert len(table(tmp_path)) == (3 if after_epoch else 2)
    result = train(*read_run(tmp_path), tmp_path, device=device, resume=True)
    assert len(result.rows) == EPOCHS
    assert_same_run(tmp_path, runs(arch).run)


@pytest.mark.parametrize("last_write", first_of(["best.safetensors", "preview.png"]))
def test_a_run_stopped_between_two_files_resumes_too(
    runs: Runs, device: str, tmp_path: Path, last_write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of an epoch are not one transaction: only last.safetensors completes it."""
    written: list[str] = []

    def after(write: Callable[..., Any], place: int) -> Callable[..., Any]:
        def stops(*arguments: Any) -> Any:
            result = write(*arguments)
            written.append(Path(arguments[place]).name)
            # The best weights are those of the first epoch, perhaps of a later one; the other files are of every epoch.
            if written[-1] == last_write and (last_write == "best.safetensors" or "last.safetensors" in written):
                raise Stop
            return result

        return stops

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(weight_file, "write", after(weight_file.write, 0))
        patch.setattr(run_folder, "write_bytes_atomic", after(run_folder.write_bytes_atomic, 0))
        patch.setattr(checkpoint, "write_image", after(checkpoint.write_image, 1))
        train(*read_run(runs("vae").run), tmp_path, device=device)
    train(*read_run(tmp_path), tmp_path, device=device, resume=True)
    assert_same_run(tmp_path, runs("vae").run)


CHILD = """
import sys, time
from edgeae.training.loop import train
from edgeae.training.run_folder import read_run
def show(progress):
    print(progress.epoch, progress.step, flush=True)
    time.sleep(0.05)
train(*read_run(sys.argv[1]), sys.argv[2], device="CPU", on_progress=show)
"""


def test_a_killed_run_resumes_as_if_never_stopped(runs: Runs, device: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(runs("vae").run), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.split() == ["3", "1"]:
                break
        with pytest.raises(TrainingError, match="another training writes to"):
            train(*read_run(tmp_path), tmp_path, device=device, resume=True)
        time.sleep(time.time() % 0.2)  # no two runs of this test need kill at the same moment: any must do
        child.kill()
    assert child.returncode == -9
    assert 2 <= len(table(tmp_path)) < EPOCHS
    (tmp_path / ".edgeae-0123456789abcdef.tmp").touch()  # what a kill in the middle of a write leaves
    train(*read_run(tmp_path), tmp_path, device=device, resume=True)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert_same_run(tmp_path, runs("vae").run)


def test_a_run_stopped_in_its_first_epoch_starts_again(runs: Runs, device: str, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(*read_run(runs("vae").run), tmp_path, device=device, on_progress=stop)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", ".lock"}
    train(*read_run(tmp_path), tmp_path, device=device, resume=True)
    assert_same_run(tmp_path, runs("vae").run)


def test_resuming_a_finished_run_changes_nothing(runs: Runs, device: str) -> None:
    done = runs("vae")
    before = {path.name: path.read_bytes() for path in done.run.iterdir()}
    result = train(*read_run(done.run), done.run, device=device, resume=True)
    assert [row["val_psnr"] for row in result.rows] == [row["val_psnr"] for row in done.rows]
    assert result.best["epoch"] == done.best["epoch"]
    assert {path.name: path.read_bytes() for path in done.run.iterdir()} == before


# ---- what is refused ---------------------------------------------------------------------------------------------


def copied(run: Path, target: Path) -> Path:
    for path in run.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_folder_with_a_run_is_not_overwritten(runs: Runs, device: str) -> None:
    run = runs("vae").run
    before = (run / "last.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="holds a run already; go on with `resume`"):
        train(*read_run(run), run, device=device)
    assert (run / "last.safetensors").read_bytes() == before


def test_a_folder_that_cannot_be_created_is_refused(device: str, configs: Configs, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"file.run cannot be written \(.*\); choose another `run`"):
        train(configs("vae"), settings_for("vae"), tmp_path / "file" / "run", device=device)


def test_weights_of_another_network_are_refused(runs: Runs, device: str, tmp_path: Path) -> None:
    run = copied(runs("conv").run, tmp_path)
    (run / "last.safetensors").write_bytes((runs("vae").run / "last.safetensors").read_bytes())
    with pytest.raises(TrainingError, match=r"last.safetensors does not belong to this run: it holds another network"):
        train(*read_run(run), run, device=device, resume=True)


@pytest.mark.parametrize(
    "damage, error, message",
    [
        ({"epoch": "2"}, None, ""),
        ({"epoch": "9"}, TrainingError, "metrics.csv does not hold the epochs"),
        ({"psnr": "1.234"}, TrainingError, "does not belong to this run: metrics.csv has no epoch of its score"),
        ({"epoch": "many"}, TrainingError, "metrics.csv does not hold the epochs"),
        ("optimizer", TrainingError, "does not belong to this run: optimizer.powers is missing"),
        ("truncated", WeightsError, "truncated"),
        ("metrics.csv", TrainingError, "metrics.csv is missing or damaged"),
    ],
)
def test_a_damaged_run_is_refused(
    runs: Runs,
    device: str,
    configs: Configs,
    tmp_path: Path,
    damage: Any,
    error: type[EdgeaeError] | None,
    message: str,
) -> None:
    run = copied(runs("vae").run, tmp_path)
    path = run / "last.safetensors"
    file = weight_file.read(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "metrics.csv":
        (run / damage).write_text("epoch,lr\n1,nonsense\n")
    elif damage == "optimizer":
        weight_file.write(path, {k: v for k, v in file.tensors.items() if not k.startswith("optimizer")}, file.metadata)
    else:
        weight_file.write(path, file.tensors, file.metadata | damage)
    trainer = make_trainer(configs("vae"), device)
    if error is None:
        assert len(checkpoint.restore(trainer, run)) == 2
        return
    with pytest.raises(error, match=message):
        checkpoint.restore(trainer, run)


def test_missing_data_is_a_data_error(device: str, configs: Configs, tmp_path: Path) -> None:
    settings = settings_for("conv", data=str(tmp_path / "none"))
    with pytest.raises(DataError, match="none"):
        train(configs("conv"), settings, tmp_path / "run", device=device)
    with pytest.raises(UsageError, match="Unknown corruption 'rust'"):
        train(configs("conv"), settings_for("conv", corrupt="rust"), tmp_path / "run", device=device)


# ---- other ways to train -----------------------------------------------------------------------------------------


def test_paired_gray_targets(device: str, configs: Configs, tmp_path: Path) -> None:
    images = open_dataset("faces", size=16, limit=15).train.inputs
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "targets.npy", np.uint8(255 * (images.max(-1, keepdims=True) > 127)))
    settings = settings_for(
        "conv", data=str(tmp_path / "images.npy"), targets=str(tmp_path / "targets.npy"), corrupt="none", epochs=EPOCHS
    )
    result = train(configs("conv"), settings, tmp_path / "run", device=device)
    assert result.rows[-1]["loss"] < result.rows[0]["loss"]
    assert math.isnan(result.rows[0]["damaged_psnr"])  # input and target are of different kinds
    model, again = read_run(tmp_path / "run")
    assert (model.out_channels, again.targets) == (1, settings.targets)
    ae = load(tmp_path / "run" / "best.safetensors", device)
    assert ae.metadata["task"] == "image-to-image"
    assert ae.reconstruct(images[0]).shape == (16, 16, 1)
    assert isinstance(ae, Session)
    # The run resumes too, with the channels that its data asked for.
    train(model, again, tmp_path / "run", device=device, resume=True)


def test_a_run_begins_with_the_weights_of_a_file(runs: Runs, device: str, tmp_path: Path) -> None:
    """As good as the file was, from the first epoch on; of any quantization; and resumed like any other."""
    source = export(runs("conv").run, tmp_path / "int8.safetensors", scheme="int8", device=device)
    settings = settings_for("conv", epochs=2, start=source.path, lr=1e-6)
    config = runs("conv")
    model, _ = read_run(config.run)
    result = train(model, settings, tmp_path / "run", device=device)
    assert result.rows[0]["val_psnr"] == pytest.approx(source.exported.psnr, abs=0.01)
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    assert len(train(model, settings, tmp_path / "again", device=device, resume=True).rows) == 2
    with pytest.raises(TrainingError, match="cannot be the start: it is another network"):
        train(replace(model, code=5), settings, tmp_path / "other", device=device)
    Path(source.path).unlink()  # what was begun needs it no more
    assert len(train(model, settings, tmp_path / "again", device=device, resume=True).rows) == 2


def test_training_on_squares_of_larger_images(device: str, configs: Configs, tmp_path: Path) -> None:
    """A run sees squares of the network's size, and validates and exports on whole images."""
    settings = settings_for("conv", crop_from=24)
    result = train(configs("conv"), settings, tmp_path / "run", device=device)
    assert result.rows[-1]["loss"] < result.rows[0]["loss"]
    with Image.open(tmp_path / "run" / "preview.png") as preview:
        wide = preview.width
    train(configs("conv"), settings_for("conv", epochs=1), tmp_path / "plain", device=device)
    with Image.open(tmp_path / "plain" / "preview.png") as preview:
        assert preview.width != wide
    report = export(tmp_path / "run", tmp_path / "m.safetensors", device=device)
    assert report.fp32.psnr == pytest.approx(result.best["val_psnr"], abs=1e-3)
    for config, side in ((configs("conv"), 8), (configs("vae"), 24)):
        with pytest.raises(TrainingError, match=f"cannot be cut from {side} for a {config.arch}"):
            train(config, replace(settings, crop_from=side), tmp_path / config.arch, device=device)


def test_two_devices_train_like_one(runs: Runs, device: str, tmp_path: Path) -> None:
    model, settings = read_run(runs("vae").run)
    result = train(model, settings, tmp_path, device="CPU,CPU:1")
    for row, single in zip(result.rows, runs("vae").rows, strict=True):
        for key in ("loss", "recon", "kl", "val_psnr", "val_ssim"):
            assert row[key] == pytest.approx(single[key], rel=1e-3), key
    for key, value in state(tmp_path, "best").items():
        np.testing.assert_allclose(value, state(runs("vae").run, "best")[key], atol=2e-3, err_msg=key)
    assert golden.verify(load(tmp_path / "best.safetensors", device)).passed
    assert len(train(model, settings, tmp_path, device=device, resume=True).rows) == len(result.rows)  # also on one


def test_the_configuration_travels_through_the_run_folder(runs: Runs) -> None:
    document = json.loads((runs("conv").run / "config.json").read_text())
    assert document["train"] == json.loads(json.dumps(asdict(settings_for("conv"))))
    assert document["model"]["arch"] == "conv"
