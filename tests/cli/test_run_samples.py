"""`edgeae run` without an INPUT: the sample pictures."""

import json
from pathlib import Path

import pytest
from helpers import error, run

from edgeae.network import weight_file

pytestmark = pytest.mark.usefixtures("working_folder")


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


def test_samples_show_what_the_model_learned(shelf: Path) -> None:
    file = weight_file.read(shelf / "faces-conv.safetensors")
    for task, damage in (("noise:0.2+blur:1", "noise:0.2+blur:1"), ("none", "occlude")):
        weight_file.write("m.safetensors", file.tensors, file.metadata | {"task": task})
        device, _, first, *_ = run("run", "-m", "./m.safetensors").stdout.splitlines()
        assert device == "device CPU" and first.split()[1].startswith(damage)
    weight_file.write("m.safetensors", file.tensors, file.metadata | {"task": "image-to-image"})
    assert "give an INPUT" in error(run("run", "-m", "./m.safetensors", code=2))
    assert "from there, without --data" in error(run("export", "m.safetensors", "-o", "x.safetensors", code=1))
