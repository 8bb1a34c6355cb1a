"""The three autoencoders: ConvAE, ResidualAE and VAE.

An autoencoder turns an image into a code (`encode`) and a code back into an image (`decode`). Ours are trained to undo
damage: the input is a damaged image, the target the clean one.

Images are (B, H, W, C) tensors with values in [0, 1], channels last. In the comments below, `S` is the stride of the
whole encoder: 2 to the number of halvings, such as 8 for three of them. Two rules hold for all three networks:

- No normalization layers. A layer is then one convolution with its bias and activation, which is one kernel on a
  device; first weights and residual blocks are scaled so that training is stable without them (layers.py).
- Nothing here knows of files, quantization or devices. A network is traced (tracing.py), exported and compiled by
  calling the same methods that train it.
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
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD

Array = npt.NDArray[np.float32]


def reconstruction_loss(recon: Tensor, target: Tensor, kind: str) -> Tensor:
    """Return the mean over all pixels and channels of the squared error or of the binary cross-entropy.

    Args:
        recon, target: (B, H, W, C) in [0, 1].
        kind: `mse` or `bce`. For `bce`, `recon` is read as a probability and kept 1e-6 away from 0 and 1.
    """
    if kind == "mse":
        return (recon - target).square().mean()
    p = recon.clip(1e-6, 1 - 1e-6)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def kl_to_unit_gaussian(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(μ, σ²) ‖ N(0, 1)) in nats per image.

    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix B.

    Args:
        mu, logvar: (B, D), mean and log σ² of the Gaussian.

    Returns:
        A scalar: summed over D, averaged over B.
    """
    return (-0.5 * (1 + logvar - mu.square() - logvar.exp())).sum(1).mean()


class Autoencoder(Layer, ABC):
    """Base of the three networks: a subclass defines `decode`, and either `encode` or `features`."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the code of an image."""
        return self.features(x)[0]

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the code of an image, followed by all skip connections that `decode` accepts."""
        return [self.encode(x)]

    @abstractmethod
    def decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """Return the image of a code, (B, H, W, C) in [0, 1].

        Args:
            code: what `encode` returns.
            skips: skip connections, as `features` returns them after the code; without them the code alone is decoded.
        """

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the restored image, (B, H, W, C) in [0, 1]: `decode` of all features. This is what inference runs."""
        return self.decode(*self.features(x))

    def losses(self, x: Tensor, y: Tensor, kind: str, beta: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Return the loss that training minimizes (`loss`) and its parts (`recon`, `kl`), as scalars.

        Args:
            x, y: damaged and clean images, (B, H, W, C) in [0, 1].
            kind: `mse` or `bce`, see `reconstruction_loss`.
            beta: weight of the KL term; only a `VAE` has one.
            noise: random numbers from `draw_noise`, or None for a loss without randomness.
        """
        recon = reconstruction_loss(self.reconstruct(x), y, kind)
        return {"loss": recon, "recon": recon}

    def draw_noise(self, rng: np.random.Generator, batch: int, skip_drop: float) -> Array | None:
        """Draw the random numbers of one training step for `losses`: float32 (B, n), or None if the loss needs none.

        They are drawn on the host and passed in, so that a step is one graph without a random generator inside, and a
        resumed run continues with the same numbers.
        """
        return None


class ConvAE(Autoencoder):
    """Plain convolutional autoencoder: strided convolutions, a code of few channels, and transposed convolutions.

    Every bit of information passes through the code, so what the code drops comes out blurred. The network is fully
    convolutional: it takes any height and width that are multiples of S.
    """

    def __init__(self, config: ModelConfig, init: Init) -> None:
        widths = (config.in_channels, *config.widths)
        deepest = widths[-1]
        # Encoder: each layer halves height and width. 4×4 windows of stride 2 overlap evenly: every input pixel is
        # seen by 2×2 windows, which leaves no checkerboard.
        self.down = [Conv2d(a, b, 4, init) for a, b in pairwise(widths)]
        # Blocks at the deepest scale. Each sees 2 positions, that is 2·S pixels, further in every direction: they
        # carry what surrounds a hole into it.
        self.gather = [ResBlock(deepest, init) for _ in range(config.context)]
        self.to_code = Conv2d(deepest, config.code, 1, init, activation=None)  # a code may be negative

        # Decoder: the mirror image of the encoder.
        self.from_code = Conv2d(config.code, deepest, 3, init)
        self.spread = [ResBlock(deepest, init) for _ in range(config.context)]
        self.up = [UpConv2d(b, a, init) for a, b in pairwise(config.widths)][::-1]
        self.to_image = UpConv2d(widths[1], config.out_channels, init, activation="sigmoid")  # into [0, 1]

    def encode(self, x: Tensor) -> Tensor:
        """Return the code: (B, H, W, C) → (B, H/S, W/S, code)."""
        return x.sequential([*self.down, *self.gather, self.to_code])

    def decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """Return the image: (B, H/S, W/S, code) → (B, H, W, C)."""
        return code.sequential([self.from_code, *self.spread, *self.up, self.to_image])


class ResidualAE(Autoencoder):
    """Autoencoder with residual blocks at every scale, and skip connections past the code.

    The encoder's features are added to the decoder's at each scale, and the input image to the output. Edges need not
    pass through the code, and the network only has to find the difference between the damaged and the clean image:
    outputs are sharper than those of `ConvAE`. What the damage has removed is in no skip connection; it can only come
    from the code. The network is fully convolutional, like `ConvAE`, and linear except within its residual blocks.
    """

    def __init__(self, config: ModelConfig, init: Init) -> None:
        widths = config.widths
        shallow, deepest = widths[:-1], widths[-1]
        self.image_skips = config.image_skip and config.in_channels == config.out_channels
        # Encoder. Without activations here: they would clip what the skip connections carry, and the blocks between
        # them already have one.
        self.down = [Conv2d(a, b, 4, init, activation=None) for a, b in pairwise((config.in_channels, *widths))]
        self.before = [ResBlock(width, init) for width in shallow]  # at each scale, before the next halving
        self.gather = [ResBlock(deepest, init) for _ in range(config.context)]
        self.to_code = Conv2d(deepest, config.code, 1, init, activation=None)

        # Decoder.
        self.from_code = Conv2d(config.code, deepest, 3, init, activation=None)
        self.spread = [ResBlock(deepest, init) for _ in range(config.context)]
        self.up = [UpConv2d(b, a, init, activation=None) for a, b in pairwise(widths)][::-1]
        self.after = [ResBlock(width, init) for width in shallow][::-1]  # at each scale, after the doubling
        # With the image as a skip connection the last layer gives a difference, which starts near zero (gain 0.01):
        # an untrained network nearly returns its input. Otherwise it gives the image itself.
        self.to_image = (
            UpConv2d(widths[0], config.out_channels, init, activation=None, gain=0.01)
            if self.image_skips
            else UpConv2d(widths[0], config.out_channels, init, activation="sigmoid")
        )

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the code and the skip connections from coarse to fine.

        With widths (32, 64, 96), S is 8 and the list is: the code (B, H/8, W/8, code), then (B, H/4, W/4, 64),
        (B, H/2, W/2, 32) and the image (B, H, W, C).
        """
        skips = [x] if self.image_skips else []
        # `down` has one layer more than `before`: at the deepest scale the code takes the place of a skip connection.
        for down, before in zip(self.down, self.before, strict=False):
            x = before(down(x))  # (B, h, w, ·) → (B, h/2, w/2, width)
            skips.insert(0, x)  # the decoder meets the coarsest first
        code = x.sequential([self.down[-1], *self.gather, self.to_code])  # (B, H/S, W/S, code)
        return [code, *skips]

    def decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """Return the image: (B, H/S, W/S, code) → (B, H, W, C).

        Without `skips` the result shows what the code alone holds. That is a picture only if training left out skip
        connections at times (`skip_drop`).
        """
        return self._decode(code, *skips).clip(0, 1)

    def _decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """`decode` without the last clip, for the loss: a value outside [0, 1] would have no gradient."""
        x = code.sequential([self.from_code, *self.spread])  # (B, H/S, W/S, widths[-1])
        rest = iter(skips)
        for up, after in zip(self.up, self.after, strict=True):
            # The skip connection is added inside the kernel of `up`, which already has the sum in registers.
            x = after(up(x, add=next(rest, None)))  # (B, h, w, ·) → (B, 2·h, 2·w, width)
        return self.to_image(x, add=next(rest, None))  # (B, H/2, W/2, widths[0]) → (B, H, W, C)

    def losses(self, x: Tensor, y: Tensor, kind: str, beta: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Return the loss as `Autoencoder.losses` does.

        Args:
            noise: (B, 1): 1 for an image that keeps its skip connections, 0 for one that loses them; None keeps all.
        """
        code, *skips = self.features(x)
        if noise is not None:
            skips = [skip * noise.reshape(-1, 1, 1, 1) for skip in skips]
        recon = reconstruction_loss(self._decode(code, *skips), y, kind)
        return {"loss": recon, "recon": recon}

    def draw_noise(self, rng: np.random.Generator, batch: int, skip_drop: float) -> Array | None:
        """Draw (B, 1): 0 with probability `skip_drop`, else 1; None if nothing is dropped."""
        return (rng.random((batch, 1)) >= skip_drop).astype(np.float32) if skip_drop else None


class VAE(Autoencoder):
    """Convolutional variational autoencoder (Kingma and Welling, 2014).

    The encoder gives the mean μ and log σ² of a Gaussian over the code. Training draws the code from it; everything
    else takes μ. The KL term of the loss keeps the codes near a unit Gaussian, so that the decoder alone makes images
    of random codes, and of points between two codes. The code is one vector per image, so the image has one size.
    """

    def __init__(self, config: ModelConfig, init: Init) -> None:
        widths = (config.in_channels, *config.widths)
        side = config.size // config.stride
        self._grid = (side, side, widths[-1])  # the deepest features of one image
        self.code = config.code
        flat = side * side * widths[-1]
        self.down = [Conv2d(a, b, 4, init) for a, b in pairwise(widths)]
        self.gather = [ResBlock(widths[-1], init) for _ in range(config.context)]
        self.to_mu = Linear(flat, config.code, init)
        # Starts near log σ² = 0, σ = 1, whatever the image: exp of a large first output would blow the loss up.
        self.to_logvar = Linear(flat, config.code, init, gain=0.01)

        self.from_code = Linear(config.code, flat, init, activation="relu")
        self.spread = [ResBlock(widths[-1], init) for _ in range(config.context)]
        self.up = [UpConv2d(b, a, init) for a, b in pairwise(config.widths)][::-1]
        self.to_image = UpConv2d(widths[1], config.out_channels, init, activation="sigmoid")

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return μ and log σ² of the code's Gaussian: (B, size, size, C) → two of (B, code)."""
        h = x.sequential([*self.down, *self.gather])  # (B, size/S, size/S, widths[-1])
        h = h.flatten(1)  # (B, flat): every position sees every other
        return self.to_mu(h), self.to_logvar(h)

    def encode(self, x: Tensor) -> Tensor:
        """Return μ: (B, size, size, C) → (B, code)."""
        return self.posterior(x)[0]

    def decode(self, code: Tensor, *skips: Tensor) -> Tensor:
        """Return the image: (B, code) → (B, size, size, C)."""
        h = self.from_code(code).reshape(-1, *self._grid)  # (B, flat) → (B, size/S, size/S, widths[-1])
        return h.sequential([*self.spread, *self.up, self.to_image])

    def losses(self, x: Tensor, y: Tensor, kind: str, beta: Tensor, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Return the loss as `Autoencoder.losses` does, with `kl` in nats per image.

        Args:
            noise: (B, code), standard normal; None takes μ as the code.
        """
        mu, logvar = self.posterior(x)
        # The reparameterization trick: the noise is an input, so gradients reach μ and σ.
        code = mu if noise is None else mu + (0.5 * logvar).exp() * noise
        recon, kl = reconstruction_loss(self.decode(code), y, kind), kl_to_unit_gaussian(mu, logvar)
        # `recon` is a mean over the values of an image, `kl` a sum over its code. Dividing `kl` by the number of values
        # weighs both per image, so β means the same for every image size.
        return {"loss": recon + beta * kl / math.prod(y.shape[1:]), "recon": recon, "kl": kl}

    def draw_noise(self, rng: np.random.Generator, batch: int, skip_drop: float) -> Array | None:
        """Draw (B, code) standard normal numbers."""
        return rng.standard_normal((batch, self.code)).astype(np.float32)


_CLASSES: dict[str, type[ConvAE | ResidualAE | VAE]] = {"conv": ConvAE, "residual": ResidualAE, "vae": VAE}


def build(config: ModelConfig, device: str, seed: int | None = None) -> Autoencoder:
    """Build the network that a configuration describes.

    Args:
        config: architecture and sizes.
        device: tinygrad device that holds the weights.
        seed: draws the first weights; None leaves them unallocated, for weights that are about to be loaded.
    """
    rng = None if seed is None else np.random.default_rng(seed)
    with TINYGRAD.turn, tinygrad_on(device):
        return _CLASSES[config.arch](config, Init(device, rng))
