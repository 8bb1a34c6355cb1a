"""The code of a `vae` turned so that its own images fill the unit Gaussian.

A few hundred images do not spread over a Gaussian of many dimensions, whatever the KL term asks for: their codes lie in
a part of it that is off the centre and flat, and a code drawn at random hits none of it. Their mean and covariance tell
where they lie (Ghosh et al., From Variational to Deterministic Autoencoders, 2020). Here the linear map that makes them
0 and 1 is made part of the layers on both sides of the code, so that nothing else changes: images are given back as
before, straight walks between codes are the same, and what is drawn from the unit Gaussian looks like the images.
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

_BATCH = 64


def standardized(
    floats: Mapping[str, Array], config: ModelConfig, images: npt.NDArray[np.float32], device: str
) -> dict[str, Array]:
    """The weights of the same network with another code.

    Its σ is no longer each image's own, but the mean over the images, in the code's new directions.

    Args:
        floats: float32 weights of a `vae` by name.
        config: of the network.
        images: (N, size, size, C) in [0, 1], whose codes are to have mean 0 and, with the σ they are drawn with,
            covariance 1.
        device: where to encode them.

    Raises:
        UsageError: the network is no `vae`.
    """
    if config.arch != "vae":
        raise UsageError(f"only the code of a vae is a Gaussian; this model is {config.arch!r}.")
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
    """Of the images' codes: the mean, the root of the covariance (symmetric), and the mean of σ²."""
    with tinygrad_on(device):
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
