"""The three autoencoders. Images are (B, H, W, C) tensors in [0, 1]; nothing here knows of files or devices.

Each model has

    encode(x)             image → code
    decode(code)          code → image
    features(x)           image → the code, and whatever else `decode` can use
    reconstruct(x)        image → image, `decode` of all `features`: what inference runs
    losses(x, y, …)       damaged image, clean image → {"loss", "recon", "kl"}: what training runs

and works without normalization layers, so that on a device a layer is one convolution with its bias and activation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from edgeae.config import ModelConfig
from edgeae.network.layers import Conv2d, Init, Layer, Linear, ResBlock, UpConv2d

Array = npt.NDArray[np.float32]


def reconstruction_loss(recon: Tensor, target: Tensor, kind: str) -> Tensor:
    """Mean over every pixel and channel of the squared error (`mse`) or of the binary cross-entropy (`bce`).

    Args:
        recon, target: (B, H, W, C) in [0, 1].
        kind: `mse` or `bce`. For `bce`, `recon` is read as a probability and kept 1e-6 away from 0 and 1.
    """
    if kind == "mse":
        return (recon - target).square().mean()
    p = recon.clip(1e-6, 1 - 1e-6)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def kl_to_unit_gaussian(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) in nats an image: (B, D), (B, D) → scalar, summed over D and averaged over B.

    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix B.
    """
    return (-0.5 * (1 + logvar - mu.square() - logvar.exp())).sum(1).mean()


class Autoencoder(Layer, ABC):
    """What the three have in common; each says for itself what `decode` does, and `encode` or `features`."""

    def encode(self, x: Tensor) -> Tensor:
        return self.features(x)[0]

    def features(self, x: Tensor) -> list[Tensor]:
        return [self.encode(x)]

    @abstractmethod
    def decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """A code, and whatever else `features` gave, → (B, H, W, C)."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H, W, C), both in [0, 1]."""
        return self.decode(*self.features(x))

    def losses(self, x: Tensor, y: Tensor, kind: str, beta: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        """What training minimizes (`loss`) and its parts, scalars.

        Args:
            x, y: damaged and clean images, (B, H, W, C) in [0, 1].
            kind: see `reconstruction_loss`.
            beta: weight of the KL term; only a `VAE` has one.
            noise: what `draw_noise` gave, or None for none.
        """
        recon = reconstruction_loss(self.reconstruct(x), y, kind)
        return {"loss": recon, "recon": recon}

    def draw_noise(self, rng: np.random.Generator, batch: int, skip_drop: float) -> Array | None:
        """The random numbers of one training step, float32 (B, n), for `losses`; None where it wants none."""
        return None


class ConvAE(Autoencoder):
    """Convolutional autoencoder: strided convolutions down, a few channels of code, up-convolutions back.

    The code is the only way through, so what it loses the output blurs. The `context` blocks at the code's scale carry
    what surrounds a hole into it. Fully convolutional: any size that is a multiple of the stride.
    """

    def __init__(self, config: ModelConfig, init: Init) -> None:
        widths = (config.in_channels, *config.widths)
        deepest = widths[-1]
        self.down = [Conv2d(a, b, 4, init) for a, b in pairwise(widths)]
        self.gather = [ResBlock(deepest, init) for _ in range(config.context)]
        self.to_code = Conv2d(deepest, config.code, 1, init, activation=None)
        self.from_code = Conv2d(config.code, deepest, 3, init)
        self.spread = [ResBlock(deepest, init) for _ in range(config.context)]
        self.up = [UpConv2d(b, a, init) for a, b in pairwise(config.widths)][::-1]
        self.to_image = UpConv2d(widths[1], config.out_channels, init, activation="sigmoid")

    def encode(self, x: Tensor) -> Tensor:
        """(B, H, W, C) → (B, H/stride, W/stride, code)."""
        return x.sequential([*self.down, *self.gather, self.to_code])

    def decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """(B, H/stride, W/stride, code) → (B, H, W, C)."""
        return code.sequential([self.from_code, *self.spread, *self.up, self.to_image])


class ResidualAE(Autoencoder):
    """Residual autoencoder: a residual block at every scale, and skip connections past the code.

    The encoder's features at each scale are added to the decoder's at the same scale, and the image itself to the
    output, so that edges need not pass through the code and the network has only to tell what is wrong with the image:
    sharper outputs. What the damage removed is in no skip connection and has to be invented from the code. Only within
    its blocks is it not linear. Fully convolutional, like `ConvAE`.
    """

    def __init__(self, config: ModelConfig, init: Init) -> None:
        widths = config.widths
        shallow, deepest = widths[:-1], widths[-1]
        self.image_skips = config.image_skip and config.in_channels == config.out_channels
        self.down = [Conv2d(a, b, 4, init, activation=None) for a, b in pairwise((config.in_channels, *widths))]
        self.before = [ResBlock(width, init) for width in shallow]  # each before the next halving
        self.gather = [ResBlock(deepest, init) for _ in range(config.context)]
        self.to_code = Conv2d(deepest, config.code, 1, init, activation=None)
        self.from_code = Conv2d(config.code, deepest, 3, init, activation=None)
        self.spread = [ResBlock(deepest, init) for _ in range(config.context)]
        self.up = [UpConv2d(b, a, init, activation=None) for a, b in pairwise(widths)][::-1]
        self.after = [ResBlock(width, init) for width in shallow][::-1]  # each after the doubling of its place
        # Beside the image the last layer starts near zero, as a residual block does.
        self.to_image = (
            UpConv2d(widths[0], config.out_channels, init, activation=None, gain=0.01)
            if self.image_skips
            else UpConv2d(widths[0], config.out_channels, init, activation="sigmoid")
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """The code, (B, H/stride, W/stride, code), then what skips it: features, coarse to fine, and the image."""
        skips = [x] if self.image_skips else []
        for down, before in zip(self.down, self.before, strict=False):
            x = before(down(x))
            skips.insert(0, x)
        return [x.sequential([self.down[-1], *self.gather, self.to_code]), *skips]

    def decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """(B, H/stride, W/stride, code) → (B, H, W, C).

        Without `skips`, what the code alone can tell: a picture only if training left out skip connections at times
        (`skip_drop`).
        """
        return self._decode(code, *skips).clip(0, 1)

    def _decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """`decode` before its values are kept in [0, 1], where a value outside would have no gradient."""
        x = code.sequential([self.from_code, *self.spread])
        rest = iter(skips)
        for up, after in zip(self.up, self.after, strict=True):
            x = after(up(x, add=next(rest, None)))
        return self.to_image(x, add=next(rest, None))

    def losses(self, x: Tensor, y: Tensor, kind: str, beta: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        """`noise`: 1 for an image that keeps its skip connections, 0 for one that does not; None keeps all."""
        code, *skips = self.features(x)
        if noise is not None:
            skips = [skip * noise.reshape(-1, 1, 1, 1) for skip in skips]
        recon = reconstruction_loss(self._decode(code, *skips), y, kind)
        return {"loss": recon, "recon": recon}

    def draw_noise(self, rng: np.random.Generator, batch: int, skip_drop: float) -> Array | None:
        return (rng.random((batch, 1)) >= skip_drop).astype(np.float32) if skip_drop else None


class VAE(Autoencoder):
    """Convolutional variational autoencoder (Kingma and Welling, 2014).

    The encoder gives μ and log σ² of a Gaussian over the code. Training draws a code from it; everything else takes μ.
    The KL term keeps the codes near a unit Gaussian, so that the decoder alone turns points between two codes, or drawn
    at random, into images.
    """

    def __init__(self, config: ModelConfig, init: Init) -> None:
        widths = (config.in_channels, *config.widths)
        side = config.size // config.stride
        self._grid = (side, side, widths[-1])
        self.code = config.code
        flat = side * side * widths[-1]
        self.down = [Conv2d(a, b, 4, init) for a, b in pairwise(widths)]
        self.gather = [ResBlock(widths[-1], init) for _ in range(config.context)]
        self.to_mu = Linear(flat, config.code, init)
        self.to_logvar = Linear(flat, config.code, init, gain=0.01)
        self.from_code = Linear(config.code, flat, init, activation="relu")
        self.spread = [ResBlock(widths[-1], init) for _ in range(config.context)]
        self.up = [UpConv2d(b, a, init) for a, b in pairwise(config.widths)][::-1]
        self.to_image = UpConv2d(widths[1], config.out_channels, init, activation="sigmoid")

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, size, size, C) → μ, log σ², each (B, code)."""
        h = x.sequential([*self.down, *self.gather]).flatten(1)
        return self.to_mu(h), self.to_logvar(h)

    def encode(self, x: Tensor) -> Tensor:
        """(B, size, size, C) → μ, (B, code)."""
        return self.posterior(x)[0]

    def decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """(B, code) → (B, size, size, C)."""
        return self.from_code(code).reshape(-1, *self._grid).sequential([*self.spread, *self.up, self.to_image])

    def losses(self, x: Tensor, y: Tensor, kind: str, beta: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        """`noise`: standard normal, or None to take μ. Reconstruction and KL are weighed as sums over an image, which
        the mean over its values divides: loss = recon + β·KL / (values in an image), `kl` itself in nats an image."""
        mu, logvar = self.posterior(x)
        code = mu if noise is None else mu + (0.5 * logvar).exp() * noise
        recon, kl = reconstruction_loss(self.decode(code), y, kind), kl_to_unit_gaussian(mu, logvar)
        return {"loss": recon + beta * kl / math.prod(y.shape[1:]), "recon": recon, "kl": kl}

    def draw_noise(self, rng: np.random.Generator, batch: int, skip_drop: float) -> Array | None:
        return rng.standard_normal((batch, self.code)).astype(np.float32)


_CLASSES: dict[str, type[ConvAE | ResidualAE | VAE]] = {"conv": ConvAE, "residual": ResidualAE, "vae": VAE}


def build(config: ModelConfig, device: str, seed: int | None = None) -> Autoencoder:
    """The network that `config` describes, on a tinygrad device.

    With a `seed` its weights are drawn from it; without one they are left unallocated, to be loaded.
    """
    rng = None if seed is None else np.random.default_rng(seed)
    return _CLASSES[config.arch](config, Init(device, rng))
