"""The golden input: its formula, its digest, and which results pass."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiers import exhaustive

from edgeae.errors import WeightsError
from edgeae.inference.golden import SAMPLES, TOLERANCE, Verification, golden_input, make_golden, verify
from edgeae.inference.load import load, open_session
from edgeae.inference.session import Session
from edgeae.network import weight_file
from edgeae.runtime import devices


def test_the_input_is_what_its_formula_says() -> None:
    size, channels, seed = 12, 3, 4_000_000_000
    picture = golden_input(size, channels, seed)
    assert (picture.dtype, picture.shape) == (np.float32, (1, size, size, channels))
    for row, column, channel in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (3, 7, 2), (11, 11, 2)):
        i = (row // 8 * 2 + column // 8) * channels + channel  # 12 pixels are two squares, the second cut
        value = (i * 2654435761 + seed) % 2**32 // 2**24
        assert picture[0, row, column, channel] == np.float32(value) / np.float32(255)
    # By hand: 2654435761 = 0x9E3779B1, whose first byte is 158; twice it, less 2³², begins with 0x3C = 60.
    assert golden_input(24, 1, 0)[0, 0, ::8, 0].tolist() == [0, np.float32(158 / 255), np.float32(60 / 255)]


def test_the_largest_input_does_not_overflow() -> None:
    last = golden_input(1024, 3, 2**32 - 1).ravel()[-1]
    assert last == np.float32(((3 * 2**14 - 1) * 2654435761 + 2**32 - 1) % 2**32 // 2**24) / np.float32(255)


@pytest.mark.parametrize("scheme", ["none", "fp16", "int8", "int4"])
def test_a_file_passes_on_the_device_that_made_it(device: str, tiny_file: Callable[..., Path], scheme: str) -> None:
    result = verify(load(tiny_file("conv", scheme, golden=True), device))
    assert result.passed
    assert result.device == device
    assert result.largest_error <= 0.5 / 65535 + 1e-6  # the digest's own rounding
    assert result.tolerance == TOLERANCE


@pytest.mark.parametrize("arch", ["residual", "vae"])
def test_the_other_architectures_pass_too(device: str, tiny_file: Callable[..., Path], arch: str) -> None:
    assert verify(load(tiny_file(arch, golden=True), device)).passed


def test_the_digest_holds_the_output_in_sixteen_bits(device: str, tiny_file: Callable[..., Path]) -> None:
    session = load(tiny_file("conv"), device)
    golden = json.loads(make_golden(session, seed=5))
    assert set(golden) == {"size", "seed", "tolerance", "digest"}
    assert (golden["size"], golden["seed"]) == (16, 5)
    data = base64.b64decode(golden["digest"])
    values = [data[i] + 256 * data[i + 1] for i in range(0, len(data), 2)]
    assert len(values) == SAMPLES
    output = session.run_floats(golden_input(16, 3, 5)).ravel()
    for j in (0, 1, 100, 511):
        place = j * (16 * 16 * 3 - 1) // 511  # evenly spread, both ends included, rounded down
        assert values[j] == round(float(output[place]) * 65535)


def changed(path: Path, name: str, place: int, factor: float) -> Path:
    """The file with one weight multiplied."""
    file = weight_file.read(path)
    tensor = file.tensors[name].copy()
    tensor.ravel()[place] *= factor
    weight_file.write(path, file.tensors | {name: tensor}, file.metadata)
    return path


def test_one_changed_weight_fails(device: str, tiny_file: Callable[..., Path]) -> None:
    path = tiny_file("conv", golden=True)
    place = int(np.abs(weight_file.read(path).tensors["down.0.weight"]).argmax())
    result = verify(load(changed(path, "down.0.weight", place, -1), device))
    assert not result.passed
    assert result.largest_error > 2 * TOLERANCE


def test_a_result_of_nan_fails() -> None:
    assert not Verification("CPU", float("nan"), 1.0).passed
    assert Verification("CPU", 0.5, 0.5).passed


@pytest.fixture(scope="module")
def session(device: str, tiny_config: Callable[..., Any], random_weights: Callable[..., Any]) -> Session:
    config = tiny_config("vae")
    file = weight_file.WeightFile(Path(), {"quantize": "none"}, config, random_weights(config), 0)
    return open_session(file, device)


def test_a_file_without_golden_input_says_so(session: Session) -> None:
    session.metadata.clear()
    with pytest.raises(WeightsError, match=r"has no golden input .*export it again"):
        verify(session)


SOUND = {"size": 16, "seed": 0, "tolerance": 0.1, "digest": base64.b64encode(bytes(2 * SAMPLES)).decode()}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "1",
        '"text"',
        "[" * 100_000,
        *(
            json.dumps(SOUND | change)
            for change in (
                {"size": 0},
                {"size": 18},
                {"size": 32},
                {"size": 2**20},
                {"size": "many"},
                {"size": None},
                {"size": 1e400},
                {"seed": -1},
                {"seed": 2**32},
                {"seed": []},
                {"tolerance": -0.1},
                {"tolerance": 1},
                {"tolerance": float("nan")},
                {"tolerance": float("inf")},
                {"digest": ""},
                {"digest": "AAA="},
                {"digest": "no base64!"},
                {"digest": 5},
                {"digest": base64.b64encode(bytes(2 * SAMPLES - 2)).decode()},
            )
        ),
    ],
    ids=range(26),
)
def test_damaged_golden_metadata_is_one_error(session: Session, text: str) -> None:
    session.metadata["golden"] = text
    with pytest.raises(WeightsError, match="golden input is damaged"):
        verify(session)


def test_sound_golden_metadata_is_read(session: Session) -> None:
    session.metadata["golden"] = json.dumps(SOUND)
    result = verify(session)
    assert 0.1 < result.largest_error <= 1  # the digest is all black
    assert not result.passed


@pytest.mark.parametrize(
    "arch, scheme",
    [("conv", "int4"), *(pytest.param(arch, "none", marks=exhaustive) for arch in ("residual", "vae"))],
)
@pytest.mark.parametrize("backend", ["CL", "WEBGPU"])
def test_other_devices_agree_with_the_cpu(backend: str, tiny_file: Callable[..., Path], arch: str, scheme: str) -> None:
    status = devices.probe(backend)
    if not status.usable:
        pytest.skip(f"{backend} is not usable: {status.reason}")
    result = verify(load(tiny_file(arch, scheme, golden=True, context=0), backend))
    assert result.passed
    assert result.device == backend
    assert result.largest_error < 1e-4
