"""The networks and their losses, compared with the same ones written in PyTorch."""

import gc
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import ConfigFactory
from tinygrad import Tensor
from tinygrad.helpers import GlobalCounters

from edgeae.config import ModelConfig
from edgeae.network.models import VAE, Autoencoder, build, kl_to_unit_gaussian, reconstruction_loss
from edgeae.network.parameters import parameters
from edgeae.network.tracing import trace

Array = npt.NDArray[Any]
Weights = dict[str, Array]
TOLERANCE = 1e-5  # of the largest value compared


def assert_close(actual: Array, expected: Any, what: str = "") -> None:
    expected = expected.detach().numpy() if hasattr(expected, "detach") else expected
    assert actual.shape == expected.shape, what
    error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30)
    assert error < TOLERANCE, f"{what}: {error:.2e}"


def images(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(shape, np.float32)


def network(config: ModelConfig, device: str, weights: Weights) -> Any:
    model = build(config, device)
    for name, value, _ in parameters(model):
        assert isinstance(value, Tensor)
        value.replace(Tensor(weights[name], device=device).realize())
    return model


class Reference:
    """The three networks, written out in PyTorch on NCHW float64 tensors: `t` holds the weights by name."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.torch = pytest.importorskip("torch")
        self.config = config
        self.t = {name: self.torch.tensor(w, dtype=self.torch.float64).requires_grad_() for name, w in weights.items()}

    def conv(self, x: Any, name: str) -> Any:
        w, b = self.t[f"{name}.weight"], self.t[f"{name}.bias"]
        stride, padding = {1: (1, 0), 3: (1, 1), 4: (2, 1)}[w.shape[0]]
        return self.torch.nn.functional.conv2d(x, w.permute(3, 2, 0, 1), b, stride, padding)

    def up(self, x: Any, name: str) -> Any:
        w, b = self.t[f"{name}.weight"].permute(2, 3, 0, 1), self.t[f"{name}.bias"]
        return self.torch.nn.functional.conv_transpose2d(x, w, b, stride=2, padding=1)

    def linear(self, x: Any, name: str) -> Any:
        return x @ self.t[f"{name}.weight"] + self.t[f"{name}.bias"]

    def block(self, x: Any, name: str) -> Any:
        return x + self.conv(self.conv(x, f"{name}.conv1").relu(), f"{name}.conv2")

    def encode(self, x: Any) -> tuple[Any, list[Any]]:
        """The code (for a `vae` μ and log σ²), and the skip connections."""
        config, skips = self.config, []
        residual = config.arch == "residual"
        if residual and config.in_channels == config.out_channels:
            skips = [x]
        for i in range(len(config.widths)):
            x = self.conv(x, f"down.{i}")
            x = x if residual else x.relu()
            if residual and i < len(config.widths) - 1:
                x = self.block(x, f"before.{i}")
                skips = [x, *skips]
        for i in range(config.context):
            x = self.block(x, f"gather.{i}")
        if config.arch == "vae":
            flat = x.permute(0, 2, 3, 1).flatten(1)
            return (self.linear(flat, "to_mu"), self.linear(flat, "to_logvar")), []
        return self.conv(x, "to_code"), skips

    def decode(self, code: Any, skips: list[Any]) -> Any:
        """Of a `residual` with an image skip not yet kept in [0, 1]."""
        config = self.config
        if config.arch == "vae":
            side = config.size // config.stride
            x = self.linear(code, "from_code").relu().reshape(-1, side, side, config.widths[-1]).permute(0, 3, 1, 2)
        else:
            x = self.conv(code, "from_code")
            x = x if config.arch == "residual" else x.relu()
        for i in range(config.context):
            x = self.block(x, f"spread.{i}")
        for i in range(len(config.widths) - 1):
            x = self.up(x, f"up.{i}")
            x = self.block(x + skips[i] if skips else x, f"after.{i}") if config.arch == "residual" else x.relu()
        x = self.up(x, "to_image")
        if config.arch != "residual" or config.in_channels != config.out_channels:
            return x.sigmoid()
        return x + skips[-1] if skips else x

    def losses(self, x: Any, y: Any, kind: str, beta: float, noise: Any) -> list[Any]:
        code, skips = self.encode(x)
        kl: list[Any] = []
        if self.config.arch == "vae":
            mu, logvar = code
            code = mu + (logvar / 2).exp() * noise
            normal = self.torch.distributions.Normal
            found = self.torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0.0, 1.0))
            kl = [found.sum() / len(x)]
        elif noise is not None:
            skips = [skip * noise.reshape(-1, 1, 1, 1) for skip in skips]
        recon = self.decode(code, skips)
        functional = self.torch.nn.functional
        loss = functional.mse_loss(recon, y) if kind == "mse" else functional.binary_cross_entropy(recon, y)
        return [loss + (beta * kl[0] / y[0].numel() if kl else 0), loss, *kl]

    def images(self, array: Array) -> Any:
        return self.torch.tensor(array, dtype=self.torch.float64).permute(0, 3, 1, 2)


# ---- whole networks ----------------------------------------------------------------------------------------------


def test_forward_equals_pytorch(arch: str, device: str, tiny_config: ConfigFactory, random_weights: Any) -> None:
    config = tiny_config(arch)
    weights = random_weights(config)
    model, reference = network(config, device, weights), Reference(config, weights)
    x = images(2, 16, 16 if arch == "vae" else 24, 3)
    code, skips = reference.encode(reference.images(x))
    code = code[0] if arch == "vae" else code
    expected = reference.decode(code, skips)

    with Tensor.train(False):
        got_code, got = model.encode(Tensor(x, device=device)), model.reconstruct(Tensor(x, device=device))
        got_decoded = model.decode(got_code)
        Tensor.realize(got_code, got, got_decoded)
    assert_close(got_code.numpy(), code if arch == "vae" else code.permute(0, 2, 3, 1), "code")
    assert got_code.shape[1:] == config.code_shape(*x.shape[1:3])
    assert_close(got.numpy(), expected.clamp(0, 1).permute(0, 2, 3, 1), "image")
    assert_close(got_decoded.numpy(), reference.decode(code, []).clamp(0, 1).permute(0, 2, 3, 1), "decoded code")
    assert got.shape == x.shape
    apart = np.abs(got_decoded.numpy() - got.numpy()).max()
    assert apart > 0.01 if arch == "residual" else apart < 1e-6


def test_losses_and_gradients_equal_pytorch(
    arch: str, device: str, tiny_config: ConfigFactory, random_weights: Any
) -> None:
    kind = "bce" if arch == "vae" else "mse"
    config = tiny_config(arch, size=8, widths=(4, 8), in_channels=1, context=0)
    weights = random_weights(config)
    model, reference = network(config, device, weights), Reference(config, weights)
    x, y = images(3, 8, 8, 1), images(3, 8, 8, 3, seed=1)
    noise = model.draw_noise(np.random.default_rng(3), 3, 0.5)
    if arch == "residual":
        assert set(noise.ravel()) == {0.0, 1.0}
    torch_noise = None if noise is None else reference.torch.tensor(noise)
    expected = reference.losses(reference.images(x), reference.images(y), kind, 2.5, torch_noise)
    expected[0].backward()

    with Tensor.train():
        inputs = [Tensor(array, device=device) for array in ((x, y) if noise is None else (x, y, noise))]
        losses = model.losses(*inputs[:2], kind, Tensor(2.5, device=device), *inputs[2:])
        named = {name: value for name, value, _ in parameters(model)}
        gradients = losses["loss"].gradient(*named.values())
        Tensor.realize(*losses.values(), *gradients)
    assert list(losses) == ["loss", "recon", "kl"][: len(expected)]
    for (name, got), value in zip(losses.items(), expected, strict=True):
        assert got.item() == pytest.approx(value.item(), rel=1e-5), name
    for name, gradient in zip(named, gradients, strict=True):
        assert_close(gradient.numpy(), reference.t[name].grad, name)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20)])
@pytest.mark.parametrize("arch", ["conv", "residual"])
def test_any_multiple_of_the_stride(
    arch: str, height: int, width: int, device: str, tiny_config: ConfigFactory
) -> None:
    config = tiny_config(arch, in_channels=1, out_channels=3)
    model = build(config, device, 0)
    x = Tensor(images(1, height, width, 1), device=device)
    assert model.encode(x).shape == (1, *config.code_shape(height, width))
    assert model.reconstruct(x).shape == (1, height, width, 3)


def test_first_and_saturated_outputs(arch: str, device: str, tiny_config: ConfigFactory, random_weights: Any) -> None:
    """First weights of He's variance keep the signal's scale; no weights give outputs outside [0, 1]."""
    config = tiny_config(arch)
    x = Tensor(images(2, 16, 16 if arch == "vae" else 24, 3), device=device)
    with Tensor.train(False):
        first = build(config, device, 0).reconstruct(x).numpy()
        large = {name: w * 5 for name, w in random_weights(config).items()}
        saturated = network(config, device, large).reconstruct(x).numpy()
    assert 0.01 < first.std() < 0.4
    assert saturated.min() >= 0
    assert saturated.max() <= 1
    assert np.ptp(saturated) > 0.9


def test_the_vae_draws_only_while_training(device: str, tiny_config: ConfigFactory, random_weights: Any) -> None:
    config = tiny_config("vae")
    model = network(config, device, random_weights(config))
    assert isinstance(model, VAE)
    x = Tensor(images(2, 16, 16, 3), device=device).realize()
    for training in (False, True):
        with Tensor.train(training):
            first, second = model.encode(x).numpy(), model.encode(x).numpy()
        assert np.array_equal(first, second)
    beta = Tensor(1.0, device=device)
    noise = model.draw_noise(np.random.default_rng(0), 2, 0.0)
    assert noise is not None
    still, again, drawn = (
        {name: value.item() for name, value in model.losses(x, x, "mse", beta, n).items()}
        for n in (None, None, Tensor(noise, device=device))
    )
    assert still == again
    assert still["recon"] == pytest.approx(np.square(model.reconstruct(x).numpy() - x.numpy()).mean(), rel=1e-5)
    assert drawn["recon"] != still["recon"]
    assert drawn["kl"] == pytest.approx(still["kl"], rel=1e-6)
    assert still["kl"] > 0


def test_noise(arch: str, tiny_config: ConfigFactory) -> None:
    config = tiny_config(arch)
    model: Autoencoder = build(config, "PYTHON")
    noise = model.draw_noise(np.random.default_rng(0), 4000, 0.25)
    if arch == "conv":
        assert noise is None
        return
    assert noise is not None
    assert noise.dtype == np.float32
    assert np.array_equal(noise, model.draw_noise(np.random.default_rng(0), 4000, 0.25))
    if arch == "vae":
        assert noise.shape == (4000, config.code)
        assert abs(noise.mean()) < 0.01
        assert noise.std() == pytest.approx(1, abs=0.01)
    else:
        assert noise.shape == (4000, 1)
        assert noise.mean() == pytest.approx(0.75, abs=0.02)
        assert (model.draw_noise(np.random.default_rng(0), 99, 1.0) == 0).all()
        assert model.draw_noise(np.random.default_rng(0), 99, 0.0) is None


# ---- losses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mse", "bce"])
def test_reconstruction_loss(kind: str, device: str) -> None:
    torch = pytest.importorskip("torch")
    recon, target = images(2, 3, 5, 3) * 0.98 + 0.01, images(2, 3, 5, 3, seed=1)
    p = torch.tensor(recon, dtype=torch.float64, requires_grad=True)
    functional = torch.nn.functional.mse_loss if kind == "mse" else torch.nn.functional.binary_cross_entropy
    expected = functional(p, torch.tensor(target, dtype=torch.float64))
    expected.backward()
    p_ = Tensor(recon, device=device)
    loss = reconstruction_loss(p_, Tensor(target, device=device), kind)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert_close(loss.gradient(p_)[0].numpy(), p.grad)


def test_bce_is_finite_at_0_and_1(device: str) -> None:
    recon = Tensor(np.array([0, 1, 0, 1], np.float32).reshape(1, 2, 2, 1), device=device)
    target = Tensor(np.array([0, 1, 1, 0], np.float32).reshape(1, 2, 2, 1), device=device)
    loss = reconstruction_loss(recon, target, "bce")
    assert loss.item() == pytest.approx(-math.log(1e-6) / 2, rel=0.01)  # 1 − 1e-6 is no float32
    assert np.isfinite(loss.gradient(recon)[0].numpy()).all()


def test_kl(device: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    mu, logvar = rng.normal(0, 2, (3, 24)).astype(np.float32), rng.normal(0, 1, (3, 24)).astype(np.float32)
    m, v = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (mu, logvar))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(m, (v / 2).exp()), normal(0.0, 1.0)).sum(1).mean()
    expected.backward()
    m_, v_ = Tensor(mu, device=device), Tensor(logvar, device=device)
    kl = kl_to_unit_gaussian(m_, v_)
    assert kl.item() == pytest.approx(expected.item(), rel=1e-6)
    for gradient, value in zip(kl.gradient(m_, v_), (m, v), strict=True):
        assert_close(gradient.numpy(), value.grad)
    zero = Tensor(np.zeros((2, 5), np.float32), device=device)
    assert kl_to_unit_gaussian(zero, zero).item() == 0


# ---- sizes -------------------------------------------------------------------------------------------------------


def test_default_sizes(arch: str) -> None:
    """Under 1.2 M parameters, and under 250 MFLOP for a 64×64 image: two for each multiply-add."""
    config = ModelConfig.default(arch)
    model: Any = build(config, "PYTHON")
    shapes = {name: tuple(value.shape) for name, value, _ in parameters(model)}
    assert 0.9e6 < sum(math.prod(shape) for shape in shapes.values()) < 1.2e6

    assert 50e6 < trace(model.reconstruct, (1, 64, 64, 3)).flop < 250e6


def test_the_same_seed_gives_the_same_weights(arch: str, device: str, tiny_config: ConfigFactory) -> None:
    a, b, c = (
        [value.numpy() for _, value, _ in parameters(build(tiny_config(arch), device, seed))] for seed in (5, 5, 6)
    )
    assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
    assert not all(np.array_equal(p, q) for p, q in zip(a, c, strict=True))


def test_without_a_seed_nothing_is_allocated(arch: str, device: str) -> None:
    gc.collect()  # what earlier tests left must not be freed in between
    before = GlobalCounters.mem_used
    model = build(ModelConfig.default(arch), device)
    assert GlobalCounters.mem_used == before
    assert all(value.device == device for _, value, _ in parameters(model) if isinstance(value, Tensor))


@pytest.mark.parametrize("skip", [True, False])
def test_the_image_skip_of_a_residual(skip: bool, device: str, tiny_config: ConfigFactory, random_weights: Any) -> None:
    """With a last layer of zeros the output is the image; without the skip connection it is gray."""
    config = tiny_config("residual", image_skip=skip)
    weights = random_weights(config)
    for name in weights:
        weights[name] = weights[name] * (not name.startswith("to_image"))
    x = 0.1 + 0.8 * images(1, 16, 16, 3)
    output = network(config, device, weights).reconstruct(Tensor(x, device=device)).numpy()
    assert np.abs(output - (x if skip else 0.5)).max() < 1e-5
    assert ModelConfig.from_json(config.to_json(), "here") == config
