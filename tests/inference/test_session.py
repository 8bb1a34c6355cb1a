"""Sessions: every kind of image in and out, odd sizes, codes, interpolation, samples, threads and errors."""

import io
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import photo
from PIL import Image, ImageOps
from tinygrad import Tensor

from edgeae.config import ModelConfig
from edgeae.errors import ImageError, OutOfMemoryError, UsageError, WeightsError
from edgeae.images.arrays import to_float
from edgeae.inference import tiles, tinygrad_engine
from edgeae.inference.load import load
from edgeae.inference.session import Session
from edgeae.inference.tinygrad_engine import TinygradEngine
from edgeae.inference.walk import decode_walk_in_pieces, lerp, slerp
from edgeae.network import weight_file
from edgeae.network.models import Autoencoder, build

SIZE = 16
Floats = npt.NDArray[np.float32]
Weights = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def network(
    device: str, tiny_config: Callable[..., ModelConfig], random_weights: Callable[..., Weights]
) -> Callable[..., tuple[Autoencoder, ModelConfig]]:
    """`network(arch, **changes)`: a tiny model with random weights, and its configuration."""

    def make(arch: str, **changes: Any) -> tuple[Autoencoder, ModelConfig]:
        config = tiny_config(arch, **changes)
        file = weight_file.WeightFile(Path(), {"quantize": "none"}, config, random_weights(config), 0)
        return file.build(device), config

    return make


@pytest.fixture(scope="module")
def session_of(device: str, network: Callable[..., tuple[Autoencoder, ModelConfig]]) -> Callable[..., Session]:
    """`session_of(arch, **changes)`: the same session, with its compiled graphs, for all tests of this file."""
    made: dict[object, Session] = {}

    def get(arch: str, **changes: Any) -> Session:
        key = (arch, *changes.items())
        if key not in made:
            made[key] = Session(TinygradEngine(*network(arch, **changes), device, batch=4))
        return made[key]

    return get


def engine_of(session: Session) -> TinygradEngine:
    assert isinstance(session.engine, TinygradEngine)
    return session.engine


def floats(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random(shape, np.float32)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


# ---- kinds of images ---------------------------------------------------------------------------------------------


def test_arrays_come_back_as_they_were_given(session_of: Callable[..., Session], arch: str) -> None:
    ae = session_of(arch)
    image = floats(SIZE, SIZE, 3)
    out = ae.reconstruct(image)
    assert (out.dtype, out.shape) == (np.float32, (SIZE, SIZE, 3))
    assert 0 <= out.min() < out.max() <= 1
    assert out.std() > 0.01  # a real answer, not a constant

    batch = ae.reconstruct(image[None])
    assert (batch.dtype, batch.shape) == (np.float32, (1, SIZE, SIZE, 3))
    np.testing.assert_array_equal(batch[0], out)
    assert ae.reconstruct(image.astype(np.float64)).dtype == np.float64

    pixels = np.rint(image * 255).astype(np.uint8)
    restored = ae.reconstruct(pixels)
    assert (restored.dtype, restored.shape) == (np.uint8, (SIZE, SIZE, 3))
    expected = ae.reconstruct(pixels.astype(np.float32) / 255)
    np.testing.assert_array_equal(restored, np.rint(expected * 255))
    assert ae.reconstruct(pixels[None]).shape == (1, SIZE, SIZE, 3)


def test_paths_bytes_and_pil_images_give_pil_images(
    session_of: Callable[..., Session], arch: str, tmp_path: Path
) -> None:
    ae = session_of(arch)
    pixels = photo(SIZE, SIZE)
    picture = Image.fromarray(pixels)
    path = tmp_path / "photo.png"
    path.write_bytes(png(picture))
    expected = ae.reconstruct(pixels)
    for source in (str(path), path, path.read_bytes(), picture):
        out = ae.reconstruct(source)
        assert isinstance(out, Image.Image)
        assert (out.mode, out.size) == ("RGB", (SIZE, SIZE))
        np.testing.assert_array_equal(np.asarray(out), expected)


def test_a_grey_model_takes_and_gives_grey(session_of: Callable[..., Session]) -> None:
    ae = session_of("conv", in_channels=1, out_channels=1)
    picture = Image.fromarray(photo(SIZE, SIZE)).convert("L")
    out = ae.reconstruct(picture)
    assert (out.mode, out.size) == ("L", (SIZE, SIZE))
    np.testing.assert_array_equal(np.asarray(out), ae.reconstruct(np.asarray(picture)[..., None])[..., 0])
    assert ae.reconstruct(Image.fromarray(photo(SIZE, SIZE))).mode == "L"
    with pytest.raises(ImageError, match=r"shape \(16, 16, 3\) .* takes \(H, W, 1\)"):
        ae.reconstruct(photo(SIZE, SIZE))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((16, 16), np.uint8), "is not an image for this model"),
        (np.zeros((16, 16, 4), np.uint8), "is not an image for this model"),
        (np.zeros((1, 2, 16, 16, 3), np.uint8), "is not an image for this model"),
        (np.zeros((0, 16, 3), np.float32), "is not an image for this model"),
        (np.zeros((0, 16, 16, 3), np.float32), "is not an image for this model"),
        (np.zeros((16, 16, 3), np.int64), "type int64"),
        (np.zeros((16, 16, 3), bool), "type bool"),
        (np.zeros((16, 16, 3), object), "type object"),
        (np.full((16, 16, 3), np.nan, np.float32), "scale them to 0 to 1"),
        (np.full((16, 16, 3), np.inf, np.float32), "scale them to 0 to 1"),
        (np.full((16, 16, 3), 128, np.float32), "scale them to 0 to 1"),
        (b"no image", "is not an image that can be read"),
        ("no-such-file.png", "no-such-file.png does not exist"),
        (None, "cannot be read from a NoneType"),
        ([[0.5]], "cannot be read from a list"),
    ],
)
def test_what_is_no_image_is_an_image_error(session_of: Callable[..., Session], image: Any, message: str) -> None:
    ae = session_of("conv")
    for method in (ae.reconstruct, ae.encode):
        with pytest.raises(ImageError, match=message) as caught:
            method(image)
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)


# ---- sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(1, 1), (2, 3), (15, 15)])
@pytest.mark.parametrize("arch", ["conv", "residual"])
def test_any_size_is_mirrored_to_a_multiple_of_the_stride(
    session_of: Callable[..., Session], arch: str, height: int, width: int
) -> None:
    ae = session_of(arch)
    image = floats(height, width, 3)
    out = ae.reconstruct(image)
    assert out.shape == image.shape

    def mirrored(length: int) -> list[int]:  # 0 1 2 → 0 1 2 2 1 0 0 1 …
        period = [*range(length), *reversed(range(length))]
        return [period[i % (2 * length)] for i in range(-(-length // ae.config.stride) * ae.config.stride)]

    padded = image[mirrored(height)][:, mirrored(width)]
    with Tensor.train(False):
        direct = engine_of(ae).model.reconstruct(Tensor(padded[None], device=ae.device)).numpy()[0]
    np.testing.assert_allclose(out, direct[:height, :width], atol=1e-6)
    assert ae.encode(image).shape == ae.config.code_shape(height, width)


def test_a_vae_fits_images_to_its_size(session_of: Callable[..., Session]) -> None:
    ae = session_of("vae")
    picture = Image.fromarray(photo(24, 40))
    fitted = ImageOps.fit(picture, (SIZE, SIZE), Image.Resampling.LANCZOS)
    out = ae.reconstruct(picture)
    assert out.size == (SIZE, SIZE)
    np.testing.assert_array_equal(np.asarray(out), np.asarray(ae.reconstruct(fitted)))
    np.testing.assert_array_equal(ae.reconstruct(np.asarray(picture)), np.asarray(out))
    assert ae.reconstruct(floats(1, 1, 3)).shape == (SIZE, SIZE, 3)
    assert ae.encode(picture).shape == (24,)


# ---- batches and graphs ------------------------------------------------------------------------------------------


def test_a_batch_gives_what_its_images_give_one_by_one(session_of: Callable[..., Session], arch: str) -> None:
    ae = session_of(arch)
    images = floats(3, SIZE, SIZE, 3)
    for method in (ae.reconstruct, ae.encode):
        together, singly = method(images), np.stack([method(image) for image in images])
        np.testing.assert_allclose(together, singly, atol=1e-6, rtol=1e-5)
    codes = ae.encode(images)
    np.testing.assert_allclose(ae.decode(codes, np.float32), [ae.decode(code, np.float32) for code in codes], atol=1e-6)


def test_batches_larger_than_the_limit_and_uneven_ones(
    device: str, network: Callable[..., Any], session_of: Callable[..., Session]
) -> None:
    ae = Session(TinygradEngine(*network("conv"), device, batch=4))
    images = floats(11, SIZE, SIZE, 3)
    out = ae.reconstruct(images)
    np.testing.assert_allclose(out, [session_of("conv").reconstruct(image) for image in images], atol=1e-6)
    assert len(engine_of(ae).graphs) == 1  # 4 + 4 + 3, the last one filled up: one compiled shape
    with pytest.raises(UsageError, match="batch must be 1 or more"):
        TinygradEngine(*network("conv"), device, batch=0)


def test_few_graphs_are_kept_and_the_one_unused_for_longest_goes(
    device: str, network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tinygrad_engine.MAX_GRAPHS == 8
    monkeypatch.setattr(tinygrad_engine, "MAX_GRAPHS", 2)
    ae = Session(TinygradEngine(*network("vae"), device))
    image = floats(SIZE, SIZE, 3)
    first = ae.reconstruct(image)
    code = ae.encode(image)
    ae.decode(code)
    assert [key[0] for key in engine_of(ae).graphs] == ["encode", "decode"]
    ae.encode(image)
    np.testing.assert_array_equal(ae.reconstruct(image), first)
    assert [key[0] for key in engine_of(ae).graphs] == ["encode", "reconstruct"]


def test_results_stay_as_they_are_and_inputs_too(session_of: Callable[..., Session], arch: str) -> None:
    # A compiled graph writes every result into the same memory.
    ae = session_of(arch)
    images = [floats(SIZE, SIZE, 3, seed=seed) for seed in range(4)]
    kept = [image.copy() for image in images]
    results = [ae.reconstruct(image) for image in images]
    codes = [ae.encode(image) for image in images]
    for image, before, result, code in zip(images, kept, results, codes, strict=True):
        np.testing.assert_array_equal(image, before)
        np.testing.assert_array_equal(ae.reconstruct(image), result)
        np.testing.assert_array_equal(ae.encode(image), code)
    assert not np.allclose(results[0], results[1])


def test_a_failed_call_leaves_the_session_usable(
    device: str, network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config = network("conv")
    ae = Session(TinygradEngine(model, config, device))
    image = floats(SIZE, SIZE, 3)

    expected = ae.reconstruct(image)

    def fails(x: Tensor) -> Tensor:
        raise MemoryError("cannot allocate")

    for calls_before in range(2):  # while it runs for the first time, and while it is captured
        ae = Session(TinygradEngine(model, config, device))
        with monkeypatch.context() as patch:
            for _ in range(calls_before):
                ae.reconstruct(image)
            patch.setattr(model, "decode", fails)
            with pytest.raises(OutOfMemoryError, match="smaller `batch`"):
                ae.reconstruct(image)
        for _ in range(3):
            np.testing.assert_array_equal(ae.reconstruct(image), expected)


# ---- codes -------------------------------------------------------------------------------------------------------


def test_codes_and_what_they_decode_to(session_of: Callable[..., Session], arch: str) -> None:
    ae = session_of(arch)
    images = floats(3, SIZE, SIZE, 3)
    codes = ae.encode(images)
    expected = {"conv": (4, 4, 4), "residual": (4, 4, 4), "vae": (24,)}[arch]
    assert (codes.dtype, codes.shape) == (np.float32, (3, *expected))
    np.testing.assert_array_equal(ae.encode(images.copy()), codes)

    decoded = ae.decode(codes, np.float32)
    assert (decoded.dtype, decoded.shape) == (np.float32, (3, SIZE, SIZE, 3))
    assert ae.decode(codes[0]).dtype == np.uint8
    np.testing.assert_array_equal(ae.decode(codes), np.rint(decoded * 255))
    difference = np.abs(decoded - ae.reconstruct(images)).max()
    if arch == "residual":  # its skip connections carry what the code has not
        assert difference > 0.01
    else:
        assert difference < 1e-6


def test_a_fully_convolutional_model_decodes_codes_of_any_size(session_of: Callable[..., Session]) -> None:
    assert session_of("conv").decode(np.zeros((2, 3, 4))).shape == (8, 12, 3)


def test_what_is_no_code_is_a_usage_error(session_of: Callable[..., Session]) -> None:
    for arch, wrong in (
        ("conv", np.zeros((4, 4, 5))),
        ("conv", np.zeros(4)),
        ("conv", np.zeros((0, 4, 4, 4))),
        ("vae", np.zeros(23)),
        ("vae", np.zeros((1, 1, 24))),
        ("vae", np.zeros((0, 24))),
    ):
        with pytest.raises(UsageError, match="does not fit; encode gives"):
            session_of(arch).decode(wrong)
    for value in (np.nan, np.inf, 1e300):
        with pytest.raises(UsageError, match="NaN or infinity"):
            session_of("vae").decode(np.full(24, value))
    with pytest.raises(UsageError, match="decoded to float64"):
        session_of("vae").decode(np.zeros(24), np.float64)


# ---- interpolation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["linear", "slerp"])
def test_both_ends_of_a_walk_are_the_reconstructions(session_of: Callable[..., Session], arch: str, path: str) -> None:
    ae = session_of(arch)
    a, b = floats(2, SIZE, SIZE, 3)
    frames = ae.interpolate(a, b, steps=4, path=path)
    assert (frames.dtype, frames.shape) == (np.float32, (4, SIZE, SIZE, 3))
    np.testing.assert_allclose(frames[0], ae.reconstruct(a), atol=1e-6)
    np.testing.assert_allclose(frames[-1], ae.reconstruct(b), atol=1e-6)
    assert np.abs(np.diff(frames, axis=0)).max(axis=(1, 2, 3)).min() > 1e-4  # no frame stands still


def test_the_middle_of_a_linear_walk_is_the_mean_of_the_features(session_of: Callable[..., Session], arch: str) -> None:
    ae = session_of(arch)
    a, b = floats(2, SIZE, SIZE, 3)
    middle = ae.interpolate(a, b, steps=3)[1]
    if arch == "residual":
        with Tensor.train(False):
            features = engine_of(ae).model.features(Tensor(np.stack([a, b]), device=ae.device))
            expected = engine_of(ae).model.decode(*(feature.mean(0, keepdim=True) for feature in features)).numpy()[0]
    else:
        expected = ae.decode((ae.encode(a) + ae.encode(b)) / 2, np.float32)
    np.testing.assert_allclose(middle, expected, atol=1e-6)


def test_several_keys_of_several_kinds_and_sizes(session_of: Callable[..., Session], arch: str, tmp_path: Path) -> None:
    ae = session_of(arch)
    a, b, c = Image.fromarray(photo(15, 16)), photo(20, 30, seed=1), Image.fromarray(photo(40, 9, seed=2))
    c.save(tmp_path / "c.png")
    frames = ae.interpolate(a, b, tmp_path / "c.png", steps=2)
    side = (SIZE, SIZE) if arch == "vae" else (16, 15)
    assert len(frames) == 3
    assert len(ae.interpolate(a, b, a, steps=3)) == 5
    assert all(isinstance(frame, Image.Image) and frame.size == side for frame in frames)
    for frame, key in zip(frames, (a, Image.fromarray(b), c), strict=True):
        fitted = ImageOps.fit(key, side, Image.Resampling.LANCZOS)
        difference = np.int16(frame) - np.int16(ae.reconstruct(fitted))
        assert np.abs(difference).max() <= 1  # another batch size may round another way


def test_two_equal_keys_give_equal_frames(session_of: Callable[..., Session]) -> None:
    ae = session_of("vae")
    a = floats(SIZE, SIZE, 3)
    for path in ("linear", "slerp"):
        frames = ae.interpolate(a, a, steps=3, path=path)
        np.testing.assert_allclose(frames, np.stack([ae.reconstruct(a)] * 3), atol=1e-6)


def test_wrong_walks_are_usage_errors(session_of: Callable[..., Session]) -> None:
    ae = session_of("vae")
    a = np.zeros((SIZE, SIZE, 3), np.uint8)
    for arguments, message in (((a,), "two or more images"), ((), "two or more images")):
        with pytest.raises(UsageError, match=message):
            ae.interpolate(*arguments)
    for options, message in (({"steps": 1}, "steps must be 2"), ({"path": "cubic"}, "choose one of linear, slerp")):
        with pytest.raises(UsageError, match=message):
            ae.interpolate(a, a, **options)
    for keys in ((np.stack([a, a]), a), (a, np.stack([a, a]))):
        with pytest.raises(ImageError, match="each key image by itself"):
            ae.interpolate(*keys)


@pytest.mark.parametrize("arch", ["conv", "residual"])
@pytest.mark.parametrize("many", [2, 3])
def test_large_images_walk_in_pieces(
    network: Callable[..., tuple[Autoencoder, ModelConfig]], device: str, arch: str, many: int
) -> None:
    """Each key's frame is what the network makes of it in the same pieces, and frames between them lie between."""
    net, config = network(arch)
    height, width, steps = 200, 152, 12
    keys = [to_float(photo(height, width, seed=seed))[None] for seed in range(many)]
    engine = TinygradEngine(net, config, device)
    tiling = tiles.plan(height, width, config, tiles.MIN_MEM, bytes_per_column=1500)
    assert tiling.pieces > 1
    frames = decode_walk_in_pieces(engine.run, keys, np.linspace(0, 1, steps), tiling, 3, np.copy)
    assert frames.shape == ((many - 1) * (steps - 1) + 1, height, width, 3)
    for key, frame in zip(keys, frames[:: steps - 1], strict=True):
        read = tiles.row_reader(key[0])
        bands = tiles.join(
            lambda count, read=read: tiles.Strip(read(count)),  # type: ignore[misc]
            height,
            tiling,
            lambda piece: engine.run("reconstruct", piece.pixels[None])[0][0],
        )
        np.testing.assert_allclose(frame, np.concatenate([band for _, band in bands]), atol=1e-5)  # type: ignore[misc]
    distances = np.abs(frames[:steps] - frames[0]).mean(axis=(1, 2, 3))
    assert (np.diff(distances) > 0).all()


def test_slerp_is_a_rotation() -> None:
    a, b = np.float32([3, 0, 0]), np.float32([0, 3, 0])
    for t in (0.0, 0.25, 0.5, 1.0):
        expected = 3 * np.array([math.cos(t * math.pi / 2), math.sin(t * math.pi / 2), 0])
        np.testing.assert_allclose(slerp(a, b, t), expected, atol=1e-6)

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 4, 4, 8)).astype(np.float32)
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    between = slerp(a, b, 0.3)
    assert between.dtype == np.float32
    assert np.linalg.norm(between) == pytest.approx(np.linalg.norm(a), rel=1e-5)
    angles = [math.acos(np.vdot(x, y) / np.linalg.norm(x) / np.linalg.norm(y)) for x, y in ((a, between), (a, b))]
    assert angles[0] == pytest.approx(0.3 * angles[1], rel=1e-4)


def test_slerp_of_parallel_opposite_and_zero_vectors_is_linear() -> None:
    a = np.float32([1, 2, 3])
    for b in (a, 2 * a, -a, np.zeros(3, np.float32)):
        for t in (0.0, 0.5, 1.0):
            np.testing.assert_array_equal(slerp(a, b, t), lerp(a, b, t))
    zeros = np.zeros(3, np.float32)
    np.testing.assert_array_equal(slerp(zeros, zeros, 0.5), zeros)
    np.testing.assert_array_equal(lerp(a, 2 * a, 0.5), 1.5 * a)
    # Where the formula takes over from the line, the two agree.
    near = np.float32([1, 2, 3.05])
    assert np.vdot(a, near) / np.linalg.norm(a) / np.linalg.norm(near) > 0.9999
    angle = math.acos(np.vdot(a, near) / np.linalg.norm(a) / np.linalg.norm(near))
    exact = (math.sin(0.5 * angle) * (a + near)) / math.sin(angle)
    np.testing.assert_allclose(slerp(a, near, 0.5), exact, rtol=1e-4)


# ---- samples -----------------------------------------------------------------------------------------------------


def test_samples_depend_on_the_seed_alone(session_of: Callable[..., Session]) -> None:
    ae = session_of("vae")
    samples = ae.sample(4, seed=7)
    assert (samples.dtype, samples.shape) == (np.uint8, (4, SIZE, SIZE, 3))
    np.testing.assert_array_equal(ae.sample(4, seed=7), samples)
    assert not np.array_equal(ae.sample(4, seed=8), samples)
    codes = np.random.default_rng(7).standard_normal((4, 24)).astype(np.float32)
    np.testing.assert_allclose(ae.sample(4, seed=7, dtype=np.float32), ae.decode(codes, np.float32), atol=1e-6)
    with pytest.raises(UsageError, match="between 1 and 65536"):
        ae.sample(0)


@pytest.mark.parametrize("arch", ["conv", "residual"])
def test_only_a_vae_can_be_sampled(session_of: Callable[..., Session], arch: str) -> None:
    with pytest.raises(UsageError, match=f"only a vae .* '{arch}'"):
        session_of(arch).sample()


# ---- threads and loading -----------------------------------------------------------------------------------------


def test_eight_threads_get_what_one_gets(device: str, network: Callable[..., Any]) -> None:
    sessions = [Session(TinygradEngine(*network(arch), device)) for arch in ("conv", "vae")]
    images = [floats(SIZE, SIZE, 3, seed=seed) for seed in range(16)]
    expected = [[ae.reconstruct(image) for image in images] for ae in sessions]
    fresh = [Session(TinygradEngine(*network(arch), device)) for arch in ("conv", "vae")]
    start = threading.Barrier(8)

    def work(thread: int) -> None:
        start.wait()
        for i in range(len(images)):
            which, place = (thread + i) % 2, (5 * thread + i) % len(images)
            ae, image = fresh[which], images[place]
            np.testing.assert_array_equal(ae.reconstruct(image), expected[which][place])
            assert ae.encode(image).shape == ae.config.code_shape(SIZE, SIZE)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, thread) for thread in range(8)]:
            done.result()


def test_load_reads_a_file(
    device: str, tiny_file: Callable[..., Path], arch: str, session_of: Callable[..., Session]
) -> None:
    ae = load(tiny_file(arch), device, batch=3)
    assert (ae.config.arch, ae.device, ae.batch, ae.metadata["arch"]) == (arch, device, 3, arch)
    assert repr(ae) == f"<edgeae.Session {arch} 16×16 on {device}>"
    assert (ae.width, ae.height) == ((16, 16) if arch == "vae" else (None, None))
    image = floats(SIZE, SIZE, 3)
    np.testing.assert_array_equal(ae.reconstruct(image), session_of(arch).reconstruct(image))


def test_load_says_what_is_wrong(device: str, tiny_file: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no shipped model 'no-such-model'"):
        load("no-such-model", device)
    with pytest.raises(WeightsError, match="no such weight file"):
        load(tmp_path / "none.safetensors", device)
    with pytest.raises(UsageError, match="'toaster' is no device"):
        load(tiny_file("conv"), "toaster")
    with pytest.raises(UsageError, match="`threads` 0"):
        load(tiny_file("conv"), device, threads=0)


def test_a_model_that_trains_elsewhere_does_not_disturb(
    device: str, tiny_config: Callable[..., ModelConfig], session_of: Callable[..., Session]
) -> None:
    # Tensor.training is global: a session inside a training loop still runs its network as it is.
    ae = session_of("vae")
    image = floats(SIZE, SIZE, 3)
    expected = ae.reconstruct(image)
    with Tensor.train():
        fresh = Session(TinygradEngine(engine_of(ae).model, ae.config, device))
        np.testing.assert_array_equal(fresh.reconstruct(image), expected)
        assert Tensor.training
    assert build(tiny_config("vae"), device) is not engine_of(ae).model


# ---- large images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv", "residual"])
def test_large_images_go_through_in_pieces(name: str, tiny_file: Callable[..., Path], device: str) -> None:
    x = np.random.default_rng(0).random((2, 192, 384, 3), dtype=np.float32)
    whole = load(tiny_file(name), device).reconstruct(x)
    small = load(tiny_file(name), device, max_mem=32 << 20)
    tiled = small.reconstruct(np.tile(x, (1, 3, 2, 1)))
    assert tiled.shape == (2, 576, 768, 3) and max(key[1][1:3] for key in engine_of(small).graphs) < (576, 768)
    inner = np.s_[:, :100, :200]  # out of reach of where the copies meet
    assert np.abs(tiled[inner] - whole[inner]).max() < 1e-4


def test_memory_for_a_batch_and_for_graphs(tiny_file: Callable[..., Path], device: str) -> None:
    session = load(tiny_file("residual"), device, max_mem=48 << 20)
    x = np.random.default_rng(0).random((16, 160, 160, 3), dtype=np.float32)
    together = session.run_floats(x)
    assert max(key[1][0] for key in engine_of(session).graphs) < 16  # fewer at once than `batch`
    assert np.allclose(together[5:6], session.run_floats(x[5:6]), atol=1e-5)
    for side in range(64, 304, 16):
        session.run_floats(x[:1, :1, :1].repeat(side, axis=1).repeat(side, axis=2))
    assert sum(graph.size_bytes for graph in engine_of(session).graphs.values()) <= session.max_mem
