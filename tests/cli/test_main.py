"""Every command: help, text, JSON, -q, and how it fails."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import Result
from helpers import TINY_TRAINING, child, error, photo, run
from helpers.tiers import exhaustive
from PIL import Image

from edgeae.cli.main import main
from edgeae.runtime import devices

pytestmark = pytest.mark.usefixtures("working_folder")

COMMANDS = sorted(main.commands)


# Arguments for each command, in a folder with two pictures, a data file, and tiny models under the shipped names.
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
    "train": ["conv", "--data", "photos.npz", "-o", "new/run", "--epochs", "1", *TINY_TRAINING],
    "verify": ["faces-vae"],
}
PROGRESS = {"bench", "evaluate", "interpolate", "run", "sample", "train", "verify"}


@pytest.fixture
def use(shelf: Path, pictures: list[str], data: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return `use(command, *more)`, which runs a command with the arguments of USES and more."""
    found = [
        devices.DeviceStatus("CPU", True, "cpu", "a processor", ms=float("nan")),
        devices.DeviceStatus("CUDA", False, reason="no driver", mend="install it"),
    ]
    monkeypatch.setattr(devices, "probe_all", lambda: found)
    np.savez("one.npz", images=photo(16, 16)[None])

    def make(command: str, *more: str) -> Result:
        return run(command, *[argument.replace("SHELF", str(shelf)) for argument in USES[command]], *more)

    return make


def test_every_command_has_an_example_here() -> None:
    assert sorted(USES) == COMMANDS


# test_bench_command.py has the same of these two; three benchmarks more take long.
SLOW = ("bench", "profile")


@pytest.mark.parametrize("command", [pytest.param(c, marks=[exhaustive] if c in SLOW else []) for c in COMMANDS])
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


@pytest.mark.parametrize("line", [pytest.param(x, marks=[exhaustive] if " bench " in x else []) for x in examples()])
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
        "corrupt - -o x.png",
        "interpolate a.png b.png -o -",
        "bench --against missing.json",
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
