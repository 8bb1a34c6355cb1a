"""Failures become one sentence and an exit code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROGRAM, child, error, run

from edgeae.network import describe

pytestmark = pytest.mark.usefixtures("working_folder")

ABSENT = "QCOM" if sys.platform == "darwin" else "METAL"


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
        (MemoryError(), 1, "out of memory: close other programs, or use smaller images."),
        (KeyboardInterrupt(), 130, "interrupted."),
    ],
)
def test_unexpected_exceptions_become_one_sentence(
    raised: BaseException, code: int, message: str, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise raised

    monkeypatch.setattr(describe, "describe", fail)
    assert error(run("info", "faces-vae", code=code)) == message


def test_the_environment_names_the_device(shelf: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAE_DEVICE", "toaster")
    assert "EDGEAE_DEVICE: 'toaster' is no device" in error(run("verify", "faces-vae", code=2))
    assert run("verify", "faces-vae", "-d", "cpu").stdout.startswith("passed on CPU")  # the flag beats it


def test_an_absent_device(shelf: Path) -> None:
    model = shelf / "faces-vae.safetensors"
    done = child("verify", model, "-d", ABSENT, code=5)
    assert done.stdout == "" and done.stderr.startswith(f"edgeae: {ABSENT} is not usable: ")
    assert len(done.stderr.splitlines()) == 1
    assert child("verify", model, code=5, env={**os.environ, "EDGEAE_DEVICE": ABSENT}).stderr == done.stderr


def test_a_setting_that_tinygrad_cannot_parse() -> None:
    done = child("info", "nothing", code=5, env={**os.environ, "DEBUG": "*"})  # set for other programs
    assert re.fullmatch(r"edgeae: tinygrad is not usable: .*; to mend it: unset .*DEBUG.*\.\n", done.stderr)


def test_a_closed_pipe_ends_the_command_without_a_message(shelf: Path) -> None:
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
