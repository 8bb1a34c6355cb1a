"""The command line: what every command prints, where, and how it ends."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import Result
from helpers import PROGRAM, child, error, photo, run
from PIL import Image

from edgeae.cli.main import main
from edgeae.network import weight_file as weights
from edgeae.runtime import devices

COMMANDS = sorted(main.commands)
TINY = ["--size", "16", "--widths", "4", "--code", "4", "--limit", "16", "--batch", "8"]

pytestmark = pytest.mark.usefixtures("working_folder")

ABSENT = "QCOM" if sys.platform == "darwin" else "METAL"


@pytest.fixture
def pictures() -> list[str]:
    """Two pictures and a broken one, in the working folder."""
    for seed, name in enumerate(("a.png", "b.png")):
        Image.fromarray(photo(20, 24, seed=seed)).save(name)
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return ["a.png", "b.png", "broken.png"]


@pytest.fixture
def data() -> str:
    """A file of 18 pictures to train on."""
    np.savez("photos.npz", images=np.stack([photo(16, 16, seed=seed) for seed in range(18)]))
    return "photos.npz"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, device: str) -> Path:
    """A run folder that `edgeae train` made."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "photos.npz", images=np.stack([photo(16, 16, seed=seed) for seed in range(18)]))
    run("train", "conv", "--data", folder / "photos.npz", *TINY, "--epochs", "1", "-o", folder / "run", "-d", "CPU")
    return folder / "run"


# ---- every command -----------------------------------------------------------------------------------------------

# What each command is tried with, in a folder with two pictures, a data file, and tiny models under the shipped names.
USES: dict[str, list[str]] = {
    "bench": ["-m", "faces-conv", "-d", "CPU", "--batch", "1", "--runs", "1", "--no-cold"],
    "compile": ["faces-vae", "-o", "new/library"],
    "corrupt": ["a.png", "-o", "new/damaged.png", "--corrupt", "occlude:0.2+noise"],
    "devices": [],
    "evaluate": ["faces-conv", "--data", "photos.npz", "--limit", "1"],
    "export": ["SHELF/faces-conv.safetensors", "-o", "new/x.safetensors", "--data", "one.npz", "--quantize", "fp16"],
    "info": ["faces-vae"],
    "interpolate": ["a.png", "b.png", "--steps", "4"],
    "profile": ["faces-vae", "-d", "CPU"],
    "run": ["a.png", "b.png", "-o", "new"],
    "sample": ["-n", "4", "-o", "new/grid.png"],
    "train": ["conv", "--data", "photos.npz", "-o", "new/run", "--epochs", "1", *TINY],
    "verify": ["faces-vae"],
}
PROGRESS = {"bench", "evaluate", "interpolate", "run", "sample", "train", "verify"}


@pytest.fixture
def use(shelf: Path, pictures: list[str], data: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`use(command, *more)`: run a command as USES says."""
    found = [
        devices.DeviceStatus("CPU", True, "cpu", "a processor", ms=float("nan")),
        devices.DeviceStatus("CUDA", False, reason="no driver", mend="install it"),
    ]
    monkeypatch.setattr(devices, "probe_all", lambda: found)
    np.savez("one.npz", images=photo(16, 16)[None])

    def make(command: str, *more: str) -> Result:
        return run(command, *[argument.replace("SHELF", str(shelf)) for argument in USES[command]], *more)

    return make


def test_every_command_is_tried() -> None:
    assert sorted(USES) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_text_json_and_quiet(command: str, use: Callable[..., Result]) -> None:
    result = use(command)
    assert result.stdout.strip() and not result.stdout.startswith("{")
    assert bool(result.stderr) == (command in PROGRESS)
    assert "\033" not in result.output and "\r" not in result.output  # no colours and bars away from a terminal
    shutil.rmtree("new", ignore_errors=True)

    result = use(command, "--json")
    document = json.loads(result.stdout, parse_constant=pytest.fail)  # one document, without NaN and infinity
    assert document and bool(result.stderr) == (command in PROGRESS)
    shutil.rmtree("new", ignore_errors=True)

    assert use(command, "-q").output == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    text = run(command, "--help").stdout
    assert text == run(command, "-h").stdout
    described = " ".join(text.split())
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option):
            assert all(name in described for name in [*parameter.opts, *parameter.secondary_opts])
            assert parameter.help or parameter.show_default, f"{parameter.name} is not explained"
    assert text.startswith(f"Usage: edgeae {command} ")
    assert max(map(len, text.splitlines())) <= 100


def examples() -> list[str]:
    """Every example in the commands' help, and in that of the program."""
    helps = [main.help, *(command.help for command in main.commands.values())]
    return re.findall(r"^ +(edgeae .+)$", "\n".join(filter(None, helps)), re.MULTILINE)


@pytest.mark.parametrize("line", examples())
def test_examples_work(line: str, shelf: Path, trained: Path, tmp_path: Path) -> None:
    program, command, *arguments = shlex.split(line)
    assert program == "edgeae"
    for name in ("photo.jpg", "neutral.jpg", "smiling.jpg", "scans/1.png", "scans/2.png", "photos/1.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(photo()).save(name)
    Image.fromarray(photo(channels=1)[..., 0]).save("scratches.png")
    shutil.copytree(trained, "runs/photos-conv")
    globbed = [str(path) for word in arguments for path in (sorted(Path().glob(word)) if "*" in word else [word])]
    if command == "train":  # takes long
        main.commands["train"].make_context("train", globbed).close()
        return
    short = ["--runs", "4"] if command == "bench" else []  # its figures are not what is tested
    assert run(command, *globbed, *short).stdout


def test_help_and_version_are_light() -> None:
    calls = [["--version"], ["--help"], *([command, "--help"] for command in COMMANDS)]
    code = f"""
import sys
from edgeae.cli.main import main
for arguments in {calls}:
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0, arguments
print([name for name in ("tinygrad", "numpy", "PIL") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_as_a_program() -> None:
    from edgeae import __version__

    assert child("--version").stdout == f"edgeae {__version__}\n"
    assert child("run", "--help").stdout.startswith("Usage: edgeae run ")
    if script := shutil.which("edgeae", path=str(Path(sys.executable).parent)):
        done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, f"edgeae {__version__}\n")


# ---- run ---------------------------------------------------------------------------------------------------------


def test_run_shows_the_samples(shelf: Path) -> None:
    result = run("run", "-d", "CPU")
    lines = result.stdout.splitlines()
    assert lines[0] == "device CPU"
    assert lines[-1] == f"all of them: {Path('edgeae-samples/samples.png')}"
    written = sorted(Path("edgeae-samples").iterdir())
    assert len(written) == len(lines) - 2 and Path("edgeae-samples/samples.png") in written
    assert result.stderr == "photos-residual on CPU\n"

    document = json.loads(run("run", "--json", "-o", "shown", "--corrupt", "noise:0.2", "--seed", "4").stdout)
    assert document["corrupt"] == "noise:0.2" and document["device"] == "CPU"
    for sample in document["samples"]:
        assert Path(sample["picture"]).parent == Path("shown") and Path(sample["picture"]).is_file()
        assert sample["hole_psnr_before"] is None
        assert sample["psnr_before"] == pytest.approx(14.5, abs=1.2)  # -20·log10 of the noise, clipped at 0 and 1


def test_run_json(shelf: Path, pictures: list[str]) -> None:
    document = json.loads(run("run", "a.png", "b.png", "-o", "out", "--json").stdout)
    assert document["model"] == "photos-residual" and document["failed"] == []
    assert [(d["source"], d["output"], d["width"], d["height"]) for d in document["done"]] == [
        (name, str(Path("out", name)), 24, 20) for name in ("a.png", "b.png")
    ]


def test_run_tells_that_a_vae_has_one_size(shelf: Path, pictures: list[str]) -> None:
    result = run("run", "-m", "faces-vae", "a.png")
    assert "images are fitted to 16×16" in result.stderr
    with Image.open("a.out.png") as image:
        assert image.size == (16, 16)


def test_some_inputs_fail(shelf: Path, pictures: list[str]) -> None:
    result = run("run", *pictures, "missing.png", "-o", "out", code=3)
    assert [path.name for path in sorted(Path("out").iterdir())] == ["a.png", "b.png"]
    assert len(result.stdout.splitlines()) == 2
    lines = result.stderr.splitlines()[1:]
    assert [line.split()[:2] for line in lines[:2]] == [["edgeae:", "broken.png"], ["edgeae:", "missing.png"]]
    assert error(result) == "2 of 4 images could not be restored."

    document = json.loads(run("run", *pictures, "-o", "out", "--overwrite", "--json", code=3).stdout)
    assert [len(document[key]) for key in ("done", "failed")] == [2, 1]
    assert document["failed"][0]["source"] == "broken.png" and document["failed"][0]["reason"]


def test_all_inputs_fail(shelf: Path, pictures: list[str]) -> None:
    result = run("run", "broken.png", "missing.png", "-o", "out", code=1)
    assert result.stdout == "" and error(result) == "2 of 2 images could not be restored."
    assert json.loads(run("run", "broken.png", "--json", code=1).stdout)["done"] == []


AWKWARD = ["with space.png", "ünï 照片.png", "two\nlines.png", "quo'te\".png", "-dash.png", os.fsdecode(b"\xff.png")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(name: str, shelf: Path) -> None:
    try:
        Image.fromarray(photo()).save(name)
    except OSError:
        pytest.skip("this file system has no such names")
    document = json.loads(run("run", "--json", "-o", "out", "--", name).stdout)
    assert document["done"][0]["source"] == name and Path("out", name).is_file()
    run("run", "-o", "out", "--", name)
    Path(name).unlink()
    assert "does not exist" in error(run("run", "-o", "out", "--", name, code=1))


def test_a_name_that_the_terminal_cannot_show(shelf: Path, pictures: list[str]) -> None:
    Path("a.png").rename("é照.png")
    done = child(
        "run",
        "é照.png",
        "-m",
        shelf / "faces-vae.safetensors",
        encoding="latin-1",
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert done.stdout.startswith(r"é\u7167.out.png  16×16")


# ---- the other commands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("output", "frames"), [("x.gif", 8), ("x.webp", 8), ("new/x.png", 8)])
def test_interpolate_animates(output: str, frames: int, shelf: Path, pictures: list[str]) -> None:
    result = run("interpolate", "a.png", "b.png", "--steps", "5", "-o", output, "--path", "slerp")
    assert result.stdout == f"{Path(output)}  5 frames of 16×16\n"
    with Image.open(output) as film:
        assert film.n_frames == frames and film.size == (16, 16)  # there and back


def test_interpolate_strip_and_folder(shelf: Path, pictures: list[str]) -> None:
    run("interpolate", "a.png", "b.png", "a.png", "--steps", "3", "-o", "strip.png", "--strip")
    with Image.open("strip.png") as strip:
        assert strip.size == (5 * 16 + 4 * 2, 16)
    document = json.loads(run("interpolate", "a.png", "b.png", "--steps", "3", "-o", "steps", "--json").stdout)
    assert document["output"] == [str(Path("steps", f"{i:04}.png")) for i in range(3)] and document["frames"] == 3
    assert all(Path(name).is_file() for name in document["output"])


def test_sample_is_repeatable(shelf: Path) -> None:
    for name, seed in (("1.png", "5"), ("2.png", "5"), ("3.png", "6")):
        run("sample", "-n", "5", "--seed", seed, "-o", name)
    contents = [Path(f"{i}.png").read_bytes() for i in (1, 2, 3)]
    assert contents[0] == contents[1] != contents[2]
    with Image.open("1.png") as grid:
        assert grid.size == (3 * 16 + 4, 2 * 16 + 2)
    assert "only a vae can be sampled" in error(run("sample", "-m", "faces-conv", code=2))


def test_corrupt_is_repeatable(pictures: list[str]) -> None:
    document = json.loads(run("corrupt", "a.png", "-o", "1.png", "--corrupt", "occlude:0.3", "--json").stdout)
    assert 0.2 < document["replaced"] < 0.4
    run("corrupt", "a.png", "-o", "2.png", "--corrupt", "occlude:0.3", "--seed", "0")
    run("corrupt", "a.png", "-o", "3.png", "--corrupt", "occlude:0.3", "--seed", "1")
    contents = [Path(f"{i}.png").read_bytes() for i in (1, 2, 3)]
    assert contents[0] == contents[1] != contents[2]


def test_evaluate_and_info_agree_with_the_file(shelf: Path, data: str) -> None:
    document = json.loads(run("evaluate", "faces-conv", "--data", data, "--corrupt", "none", "--json").stdout)
    assert document["images"] == 18 and document["device"] == "CPU" and document["corrupt"] == "none"
    assert document["input"]["psnr"] is None and document["input"]["mse"] == 0  # equal to itself: infinite
    assert document["output"]["psnr"] == pytest.approx(-10 * np.log10(document["output"]["mse"]))
    info = json.loads(run("info", "faces-conv", "--json").stdout)
    assert info["architecture"] == "conv" and info["licence"] == "CC0-1.0"
    assert info["size_bytes"] == (shelf / "faces-conv.safetensors").stat().st_size
    lines = run("info", shelf / "faces-conv.safetensors").stdout.splitlines()
    assert len(lines) == len(info) and re.fullmatch(r"size bytes +[\d,]+", lines[1])


def test_train_and_resume(trained: Path) -> None:
    names = {"best.safetensors", "config.json", "curves.png", "last.safetensors", "metrics.csv", "preview.png"}
    assert names <= {path.name for path in trained.iterdir()}
    before = (trained / "last.safetensors").read_bytes()
    document = json.loads(run("train", "--resume", trained, "--json").stdout)  # nothing is left to do
    assert document["epochs"] == 1 and document["run"] == str(trained) and document["best"]["epoch"] == 1
    assert (trained / "last.safetensors").read_bytes() == before
    assert "holds a run already" in error(
        run("train", "conv", "--data", trained.parent / "photos.npz", "-o", trained, code=1)
    )


def test_train_shows_what_it_does(trained: Path, data: str) -> None:
    result = run("train", "conv", "--data", data, *TINY, "--epochs", "1", "-d", "CPU")
    lines = result.stderr.splitlines()
    assert lines[0] == "dataset photos.npz" and lines[1].split() == ["usable", "16", "(train", "14,", "val", "2)"]
    assert re.fullmatch(r"epoch 1/1  recon [\d.]+  PSNR [\d.]+ dB  SSIM -?[\d.]+  \d+ images/s  0:00 left", lines[-1])
    assert result.stdout.splitlines()[1:] == [
        str(Path("runs/photos-conv", name)) for name in ("best.safetensors", "preview.png", "curves.png")
    ]
    config = json.loads(Path("runs/photos-conv/config.json").read_text())
    assert config["model"]["widths"] == [4] and config["train"]["corrupt"] == "occlude"


def test_train_starts_from_a_model(trained: Path, data: str) -> None:
    best = str(trained / "best.safetensors")
    run("train", "--start", best, "--data", data, "--epochs", "1", "--batch", "8", "--limit", "16", "-d", "CPU")
    config = json.loads(Path("runs/photos-conv/config.json").read_text())
    first = json.loads((trained / "config.json").read_text())
    assert config["model"] == first["model"] and config["train"]["start"] == best
    assert config["train"]["corrupt"] == "occlude:0.125"  # what the model was trained on
    for arguments, said in (
        (["--widths", "4,8"], "leave out --widths"),
        (["residual"], "is a conv, not a residual"),
    ):
        assert said in error(run("train", "--start", best, "--data", data, *arguments, code=2))
    vae = ["train", "--start", "faces-vae", "--data", data, "--size", "32"]
    assert "takes images of 64 pixels" in error(run(*vae, code=2))


def test_export_that_trains_on(trained: Path) -> None:
    result = run("export", trained, "-o", "x.safetensors", "--quantize", "int4", "--tune", "1", "-d", "CPU")
    assert re.search(r"^tuning 0/1  PSNR [\d.]+ dB\ntuning 1/1  PSNR [\d.]+ dB$", result.stderr, re.MULTILINE)
    assert "int8 or int4" in error(run("export", trained, "-o", "y.safetensors", "--tune", "1", code=2))


@pytest.mark.parametrize("scheme", ["none", "fp16", "int8", "int4"])
def test_export_a_run(scheme: str, trained: Path) -> None:
    result = run("export", trained, "-o", "new/x.safetensors", "--quantize", scheme, "--licence", "CC0-1.0")
    assert f"new{os.sep}x.safetensors  {Path('new/x.safetensors').stat().st_size:,} bytes, " in result.stdout
    assert run("verify", "new/x.safetensors").stdout.startswith("passed on CPU: ")
    info = json.loads(run("info", "new/x.safetensors", "--json").stdout)
    assert (info["quantize"], info["licence"], info["train_data"]) == (scheme, "CC0-1.0", "photos.npz")


def test_verify_out_of_tolerance(shelf: Path) -> None:
    file = weights.read(shelf / "faces-vae.safetensors")
    name = next(name for name in reversed(file.tensors) if name.endswith("bias"))
    weights.write("damaged.safetensors", {**file.tensors, name: file.tensors[name] + 1}, file.metadata)
    result = run("verify", "damaged.safetensors", code=4)
    assert result.stdout.startswith("FAILED on CPU: largest difference ")
    assert error(result) == "damaged.safetensors is out of tolerance on CPU."
    document = json.loads(run("verify", "damaged.safetensors", "--json", code=4).stdout)
    assert document["passed"] is False and document["largest_error"] > document["tolerance"]


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        devices.DeviceStatus("CPU", True, "cpu", "a processor"),
        devices.DeviceStatus("CUDA", False, reason="no driver", mend="install it"),
    ]
    monkeypatch.setattr(devices, "probe_all", lambda: found)
    assert run("devices").stdout.splitlines() == [
        "device  usable",
        "CPU     yes     a processor",
        "CUDA    no      no driver",
        "",
        "to mend:",
        "  CUDA: install it",
    ]
    del found[0]
    result = run("devices", "--json", code=5)
    assert json.loads(result.stdout)[0]["mend"] == "install it" and "no device is usable" in error(result)


# ---- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "--nonsense",
        "run --nonsense",
        "run a.png --threads 0",
        "run a.png --batch many",
        "run a.png -d toaster",
        "run a.png -d CPU:0,CPU:1",
        "run a.png b.png -o c.png",
        "run a.png -o c.mp4",
        "run --corrupt rust",
        "run --seed -1",
        "interpolate",
        "interpolate a.png",
        "interpolate a.png b.png --steps 1",
        "interpolate a.png b.png --path bent",
        "interpolate a.png b.png -o film.mp4",
        "interpolate a.png b.png --strip",
        "sample -n 0",
        "sample -o grid.mp4",
        "corrupt a.png",
        "corrupt a.png -o c.png",
        "corrupt a.png -o c.png --corrupt occlude:7",
        "corrupt a.png -o c.mp4 --corrupt blur",
        "corrupt --corrupt blur -o c.png",
        "train",
        "train conv",
        "train unet --data photos.npz",
        "train conv --data photos.npz --widths 4,x",
        "train conv --data photos.npz --widths 4,8 --size 17",
        "train conv --data photos.npz --lr nan",
        "train conv --data photos.npz --corrupt rust",
        "train vae --data photos.npz --code 8",
        "train --resume runs/x --epochs 9",
        "train --resume runs/x --no-augment",
        "train conv --resume runs/x",
        "evaluate faces-conv",
        "evaluate faces-conv --data photos.npz --limit 0",
        "export a.safetensors",
        "export a.safetensors -o b.bin",
        "export a.safetensors -o b.safetensors --quantize int2",
        "info",
        "verify",
        "devices CPU",
    ],
)
def test_usage_errors(line: str, shelf: Path, pictures: list[str], data: str) -> None:
    before = sorted(Path().rglob("*"))
    result = run(*shlex.split(line), code=2)
    assert result.stdout == "" and "Traceback" not in result.stderr
    assert sum("rror:" in text or text.startswith("edgeae: ") for text in result.stderr.splitlines()) == 1
    assert sorted(Path().rglob("*")) == before  # nothing is written


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "run a.png -m faces-deep",
            "no shipped model 'faces-deep' (shipped: faces-conv, faces-residual, faces-vae, "
            "fp16, int4, int8, photos-residual)",
        ),
        ("run a.png -m a.png", "no shipped model 'a.png'"),
        ("run a.png -m ./a.png", "is not a safetensors weight file"),
        ("info missing.safetensors", "no such weight file"),
        ("interpolate a.png broken.png", "broken.png is"),
        ("corrupt missing.png -o c.png --corrupt blur", "missing.png does not exist"),
        ("corrupt a.png -o a.png/c.png --corrupt blur", "is a file, not a folder"),
        ("evaluate faces-conv --data missing", "missing"),
        ("train conv --data missing -o new", "missing"),
        ("train --resume new", "holds no run to resume"),
        ("export missing.safetensors -o c.safetensors", "no such weight file"),
    ],
)
def test_failures(line: str, message: str, shelf: Path, pictures: list[str]) -> None:
    result = run(*shlex.split(line), code=1)
    assert message in error(result) and result.stdout == ""
    assert not list(Path().glob("c.*"))


def test_a_traceback_only_with_verbose(shelf: Path) -> None:
    for place in (["-v", "info", "nothing"], ["info", "--verbose", "nothing"]):
        result = run(*place, code=1)
        assert "Traceback (most recent call last)" in result.stderr and "find_model" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("edgeae: there is no shipped model 'nothing'")
    assert run("-q", "info", "nothing", code=1).stderr.startswith("edgeae: ")


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (RuntimeError("odd\nthing"), 1, "unexpected RuntimeError: odd thing. Run with -v and report what it prints."),
        (MemoryError(), 1, "out of memory; try a smaller image or --batch."),
        (KeyboardInterrupt(), 130, "interrupted."),
    ],
)
def test_what_nobody_expects(
    raised: BaseException, code: int, message: str, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise raised

    monkeypatch.setattr(weights, "describe", fail)
    assert error(run("info", "faces-vae", code=code)) == message


def test_the_environment_names_the_device(shelf: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAE_DEVICE", "toaster")
    assert "EDGEAE_DEVICE: 'toaster' is no device" in error(run("verify", "faces-vae", code=2))
    assert run("verify", "faces-vae", "-d", "cpu").stdout.startswith("passed on CPU")  # the flag beats it


# ---- as a program ------------------------------------------------------------------------------------------------


def test_an_absent_device(shelf: Path) -> None:
    model = shelf / "faces-vae.safetensors"
    done = child("verify", model, "-d", ABSENT, code=5)
    assert done.stdout == "" and done.stderr.startswith(f"edgeae: {ABSENT} is not usable: ")
    assert len(done.stderr.splitlines()) == 1
    assert child("verify", model, code=5, env={**os.environ, "EDGEAE_DEVICE": ABSENT}).stderr == done.stderr


def test_settings_that_tinygrad_cannot_read() -> None:
    done = child("info", "nothing", code=5, env={**os.environ, "DEBUG": "*"})  # set for other programs
    assert re.fullmatch(r"edgeae: tinygrad is not usable: .*; to mend it: unset .*DEBUG.*\.\n", done.stderr)


def test_a_reader_that_leaves(shelf: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "info", str(shelf / "faces-vae.safetensors")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout and program.stderr
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
@pytest.mark.parametrize("no_color", ["", "1", "please"])
def test_colour(no_color: str) -> None:
    import pty

    terminal, stderr = pty.openpty()
    done = subprocess.run(
        [*PROGRAM, "info", "nothing"],
        stderr=stderr,
        stdout=subprocess.PIPE,
        timeout=60,
        env={**os.environ, "NO_COLOR": no_color},
    )
    os.close(stderr)
    text = os.read(terminal, 4096)
    os.close(terminal)
    assert done.returncode == 1 and b"no shipped model" in text
    assert (b"\033[" in text) == (not no_color)


def stop(arguments: list[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal to a training after the first epoch that it completes; returns its exit code and stderr."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the child inherits an ignored one
    program = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    watchdog = threading.Timer(120, program.kill)
    watchdog.start()
    with program:
        assert program.stderr
        seen = ""
        for line in program.stderr:
            seen += line
            if line.startswith("epoch "):
                time.sleep(0.02)  # into the next one
                program.send_signal(number)
                break
        seen += program.stderr.read()
    watchdog.cancel()
    return program.returncode, seen


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_signals_stop_a_training_that_can_be_resumed(data: str) -> None:
    start = ["train", "conv", "--data", data, *TINY, "--epochs", "10000", "-o", "my run", "-d", "CPU"]
    code, text = stop(start, signal.SIGINT)
    *_, hint, last = text.splitlines()
    assert (code, last) == (130, "edgeae: interrupted.") and "Traceback" not in text
    assert hint == "stopped; go on with: edgeae train --resume 'my run'"
    done = check_run(Path("my run"))

    code, text = stop(shlex.split(hint.split(": edgeae ")[1]), signal.SIGTERM)
    assert code == 143 and "Traceback" not in text and text.splitlines()[-1] == hint
    first = re.search(r"epoch (\d+)/10000", text)
    assert first and int(first[1]) == done + 1
    assert check_run(Path("my run")) > done


def check_run(folder: Path) -> int:
    """That all files of a run are whole; returns how many epochs are complete."""
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]
    file = weights.read(folder / "last.safetensors")
    weights.read(folder / "best.safetensors")
    for name in ("preview.png", "curves.png"):
        with Image.open(folder / name) as image:
            image.load()
    epochs = int(file.metadata["epoch"])
    rows = (folder / "metrics.csv").read_text().splitlines()[1:]
    assert len(rows) in (epochs, epochs + 1)  # last.safetensors is written last
    return epochs
