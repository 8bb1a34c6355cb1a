"""The configuration of a network and of a training run: two frozen dataclasses that are stored as JSON.

A `ModelConfig` is in every weight file, a `TrainConfig` in every run's `config.json`. If a key is missing, unknown, of
the wrong type or out of range, the error names it.
"""

from __future__ import annotations

import dataclasses
import json
import reprlib
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from edgeae.errors import EdgeaeError, UsageError, WeightsError

ARCHS = ("conv", "residual", "vae")
LOSSES = ("mse", "bce")
UPDATE = "update edgeae (pip install -U edgeae)"  # what to do about a file of a later version
IMAGE_TO_IMAGE = "image-to-image"  # the task of a model that was trained on pairs of images, not on damage

# Upper bounds: a hostile file cannot describe a network that takes all memory.
MAX_WIDTH, MAX_STAGES, MAX_SIZE, MAX_CODE, MAX_CONTEXT = 4096, 8, 4096, 65536, 64


def task_of(metadata: Mapping[str, str]) -> str:
    """Return what a model was trained to undo: a damage specification, `none` if unknown, or IMAGE_TO_IMAGE.

    Args:
        metadata: the strings of its weight file.
    """
    return metadata.get("task", "none")


class _Json:
    """Base of a frozen dataclass of plain values and tuples that is written to JSON and read back."""

    def to_json(self) -> str:
        """Return one line of JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str, where: str, error: type[EdgeaeError] = WeightsError) -> Self:
        """Read back what `to_json` wrote.

        Args:
            text: the JSON document.
            where: its origin, such as the path of a file; begins the error message.
            error: class of the error.

        Raises:
            error: the text is not a JSON object, or a key or value is wrong.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise error(f"{where}: the configuration is not valid JSON.") from None
        if not isinstance(values, dict):
            raise error(f"{where}: the configuration is not a JSON object.")
        if cls is ModelConfig and isinstance(arch := values.get("arch"), str) and arch not in ARCHS:
            choices = f"unknown architecture {reprlib.repr(arch)}; choose one of {', '.join(ARCHS)}"
            raise error(f"{where}: {choices}. If a newer edgeae made it, {UPDATE}.")
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - set(fields)):
            name = reprlib.repr(unknown[0])
            known = ", ".join(fields)
            unknown_key = f"unknown configuration key {name}; known are {known}"
            raise error(f"{where}: {unknown_key}. If a newer edgeae made it, {UPDATE}.")
        required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
        if missing := sorted(required - set(values)):
            raise error(f"{where}: configuration key {missing[0]!r} is missing.")
        try:
            return cls(**{name: _typed(name, value, hints[name]) for name, value in values.items()})
        except UsageError as e:
            raise error(f"{where}: {e}") from None


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Return a value from JSON in the type of its field, or raise a UsageError that names the field."""
    if typing.get_origin(hint) is tuple:
        if isinstance(value, list):
            return tuple(_typed(name, item, typing.get_args(hint)[0]) for item in value)
    elif typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _typed(name, value, next(h for h in typing.get_args(hint) if h is not type(None)))
    elif hint is float and type(value) in (int, float):
        with suppress(OverflowError):  # an integer past 1e308
            return float(value)
    elif type(value) is hint:
        return value
    raise UsageError(f"configuration key {name!r} has the wrong type ({reprlib.repr(value)}).")


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # false for NaN too, and exact for integers of any size
        raise UsageError(f"{name} must be between {low:g} and {high:g}, not {reprlib.repr(value)}.")


@dataclass(frozen=True)
class ModelConfig(_Json):
    """The sizes of one network.

    Attributes:
        arch: `conv`, `residual` or `vae`.
        size: height and width in pixels of the images it was trained on; the only size a `vae` takes.
        in_channels, out_channels: 1 (gray) or 3 (RGB).
        widths: channels at each scale; height and width are halved before each of them.
        code: channels of the code (`conv`, `residual`), or dimensions of the Gaussian (`vae`, at least 20).
        context: residual blocks at the deepest scale, on each side of the code; they carry the surroundings of a hole
            into it.
        image_skip: whether a `residual` with as many output as input channels adds the input image to its output.
    """

    arch: str
    size: int = 64
    in_channels: int = 3
    out_channels: int = 3
    widths: tuple[int, ...] = (32, 64, 128)
    code: int = 32
    context: int = 2
    image_skip: bool = True

    def __post_init__(self) -> None:
        if self.arch not in ARCHS:
            raise UsageError(f"unknown architecture {reprlib.repr(self.arch)}; choose one of {', '.join(ARCHS)}.")
        _in_range("the number of widths", len(self.widths), 1, MAX_STAGES)
        for width in self.widths:
            _in_range("each width", width, 1, MAX_WIDTH)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels not in (1, 3):
                raise UsageError(f"{name} must be 1 (grey) or 3 (RGB), not {reprlib.repr(channels)}.")
        _in_range("size", self.size, self.stride, MAX_SIZE)
        if self.size % self.stride:
            raise UsageError(f"size must be a multiple of {self.stride} for these widths, not {self.size}.")
        _in_range("code", self.code, 20 if self.arch == "vae" else 1, MAX_CODE)
        _in_range("context", self.context, 0, MAX_CONTEXT)

    @classmethod
    def default(cls, arch: str, **changes: Any) -> Self:
        """Return the sizes of the shipped models: about 1 M parameters, at most 250 MFLOP for a 64×64 image.

        Args:
            arch: `conv`, `residual` or `vae`.
            changes: fields that differ from these sizes.
        """
        sizes: dict[str, dict[str, Any]] = {
            "conv": {"widths": (32, 64, 96), "code": 32, "context": 2},
            "residual": {"widths": (32, 64, 64, 96), "code": 32, "context": 1},
            "vae": {"widths": (32, 64, 96, 128), "code": 64, "context": 0},
        }
        return cls(arch=arch, **{**sizes.get(arch, {}), **changes})

    @property
    def stride(self) -> int:
        """Pixels of the image, along one side, per position of the deepest layer: 2 to the number of halvings."""
        return int(2 ** len(self.widths))

    @property
    def takes_any_size(self) -> bool:
        """True for the fully convolutional networks; a `vae`'s linear layers tie it to images of size × size."""
        return self.arch != "vae"

    def code_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of one image's code: `(code,)` for `vae`, else `(height/stride, width/stride, code)`."""
        if self.arch == "vae":
            return (self.code,)
        return (-(-height // self.stride), -(-width // self.stride), self.code)


@dataclass(frozen=True)
class TrainConfig(_Json):
    """The settings of a training run.

    Attributes:
        data: folder, file or built-in name, as the user wrote it.
        targets: folder with the target of each image of `data`, or None.
        start: weight file, or name of a shipped model, whose weights the run begins with; None draws random ones.
        epochs: passes over the training images.
        batch: images per step.
        lr: peak learning rate of AdamW.
        warmup: share of all steps over which the rate climbs to `lr`; then a cosine takes it down to 1% of that.
        weight_decay: AdamW's decoupled decay, on weights and not on biases.
        loss: `mse` or `bce` (binary cross-entropy), the mean over pixels and channels.
        beta: weight of the KL term of a `vae`; loss and KL both count per image.
        beta_warmup: share of all steps over which `beta` climbs from 0.
        skip_drop: share of training images whose skip connections a `residual` loses, so that its decoder also learns
            to work from the code alone; this costs quality of the restored image.
        crop_from: side in pixels that images are fitted to, if it is not the network's own size. Training then takes
            squares of the network's size from them, different ones in each epoch; validation takes all of the image.
            Not for a `vae`.
        corrupt: damage specification (images/damage/spec.py).
        augment: whether to flip, zoom (not with `crop_from`) and change the light.
        zoom: smallest side of a random zoom, as a share of the image's; 1 zooms nothing.
        blend: share of training images that are mixed with another one; for aligned images, such as faces.
        seed: of everything random in the run.
        limit: use at most so many images; None uses all.
        source: where the data come from, for the weight files; empty takes the name of the data.
        licence: what the data allow, for the weight files.
    """

    data: str
    targets: str | None = None
    start: str | None = None
    epochs: int = 30
    batch: int = 64
    lr: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 1e-2
    loss: str = "mse"
    beta: float = 0.01
    beta_warmup: float = 0.2
    skip_drop: float = 0.0
    crop_from: int | None = None
    corrupt: str = "occlude"
    augment: bool = True
    zoom: float = 0.85
    blend: float = 0.0
    seed: int = 0
    limit: int | None = None
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        _in_range("epochs", self.epochs, 1, 1_000_000)
        _in_range("batch", self.batch, 1, 65536)
        _in_range("lr", self.lr, 1e-9, 10.0)
        _in_range("weight_decay", self.weight_decay, 0.0, 10.0)
        _in_range("beta", self.beta, 0.0, 1e6)
        for name in ("warmup", "beta_warmup", "skip_drop", "blend"):
            _in_range(name, getattr(self, name), 0.0, 1.0)
        _in_range("zoom", self.zoom, 0.01, 1.0)
        _in_range("seed", self.seed, 0, 2**32 - 1)
        if self.crop_from is not None:
            _in_range("crop_from", self.crop_from, 1, MAX_SIZE)
        if self.limit is not None:
            _in_range("limit", self.limit, 2, 2**31)
        if self.loss not in LOSSES:
            raise UsageError(f"unknown loss {reprlib.repr(self.loss)}; choose one of {', '.join(LOSSES)}.")


@dataclass(frozen=True)
class DataRecord(_Json):
    """What a run keeps of its data, so that a later session finds the same.

    Attributes:
        path, targets: absolute paths; None for built-in data and for no targets.
        near_path, near_targets: the same relative to the run folder, for when both were moved together.
        images: number of usable images.
        digest: of the names and contents of all; empty for built-in data.
        content: the same without the names.
        validation: the same of the validation images alone.
        split: `file` if each file's content decides whether it validates, `position` if its place in the list does.
        best_after: an epoch; the scores up to it are of other validation images than those since.
    """

    path: str | None = None
    targets: str | None = None
    near_path: str | None = None
    near_targets: str | None = None
    images: int = 0
    digest: str = ""
    content: str = ""
    validation: str = ""
    split: str = "file"
    best_after: int = 0
