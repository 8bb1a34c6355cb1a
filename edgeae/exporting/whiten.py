"""Whitening of the code of a `vae`: its images' codes get mean 0 and covariance 1.

`sample` draws codes from the unit Gaussian. The codes of a few hundred images do not fill it, whatever the KL term asks
for: they lie off its centre, in few directions, and a random code is far from all of them. Their mean and covariance
describe where they lie (Ghosh et al., From Variational to Deterministic Autoencoders, 2020). The linear map that
whitens the codes is multiplied into the layers before and after the code. Reconstructions and straight lines between
codes stay as they are; only what random codes decode to changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from edgeae.config import ModelConfig
from edgeae.errors import UsageError
from edgeae.inference.session import Session
from edgeae.inference.tinygrad_engine import TinygradEngine
from edgeae.network.models import VAE, build
from edgeae.network.parameters import parameters
from edgeae.network.weight_file import Array
from edgeae.runtime.tinygrad_lock import tinygrad_on
from edgeae.runtime.turns import TINYGRAD

_BATCH = 64


def require_gaussian(config: ModelConfig) -> None:
    """Raise UsageError unless the code of a network is a Gaussian, which alone can be whitened."""
    if config.arch != "vae":
        raise UsageError(f"only the code of a vae is a Gaussian; this model is {config.arch!r}.")


def whiten(
    floats: Mapping[str, Array], config: ModelConfig, images: npt.NDArray[np.float32], device: str
) -> dict[str, Array]:
    """Return the weights of the same network with a whitened code.

    With σ² averaged over the images, C = cov(μ) + diag(mean σ²) is the covariance of the codes. The new code is
    (code − mean μ)·C^(−1/2). Its σ no longer depends on the image: it is the mean, along the new axes.

    Args:
        floats: float32 weights of a `vae` by name.
        config: of the network.
        images: float32 (N, size, size, C) in [0, 1].
        device: tinygrad device to encode them on.

    Raises:
        UsageError: the network is not a `vae`.
    """
    require_gaussian(config)
    mean, root, variances = _moments(floats, config, images, device)
    inverse = np.linalg.inv(root)
    changed: dict[str, npt.NDArray[Any]] = {
        "to_mu.weight": floats["to_mu.weight"] @ inverse,
        "to_mu.bias": (floats["to_mu.bias"] - mean) @ inverse,
        "to_logvar.weight": np.zeros_like(floats["to_logvar.weight"]),
        "to_logvar.bias": np.log(variances @ np.square(inverse)),
        "from_code.weight": root @ floats["from_code.weight"],
        "from_code.bias": floats["from_code.bias"] + mean @ floats["from_code.weight"],
    }
    return {**floats, **{name: value.astype(np.float32) for name, value in changed.items()}}


def _moments(
    floats: Mapping[str, Array], config: ModelConfig, images: npt.NDArray[np.float32], device: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of the images' codes: the mean (d,), C^(1/2) (d, d), which is symmetric, and the mean σ² (d,)."""
    with TINYGRAD.turn, tinygrad_on(device):
        model = build(config, device)
        assert isinstance(model, VAE)
        for name, value, _ in parameters(model):
            assert isinstance(value, Tensor)
            value.replace(Tensor(floats[name], device=device).realize())
    session = Session(TinygradEngine(model, config, device, _BATCH))
    mu, logvar = (part.astype(np.float64) for part in session.posterior(images))
    variances = np.exp(logvar).mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(mu.T, ddof=0) + np.diag(variances))
    return mu.mean(axis=0), (vectors * np.sqrt(values)) @ vectors.T, variances
