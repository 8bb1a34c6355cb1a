"""What is timed: a task of a model on a device, in one runtime."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from edgeae.benchmark.turns import Engine, WrongOutput
from edgeae.config import TrainConfig
from edgeae.data.batches import Batch
from edgeae.data.datasets import Dataset, Report, Split
from edgeae.errors import UsageError
from edgeae.exporting.library import CompileReport, compile
from edgeae.inference.load import load, open_session
from edgeae.inference.session import Session
from edgeae.network import weight_file as weights
from edgeae.network.weight_file import WeightFile
from edgeae.runtime import devices
from edgeae.runtime.tinygrad_lock import tinygrad_on

LIBRARY = "edgeae library"  # compiled (library/)
HELD = ("reconstruct", "encode", "decode")  # what a library and an ONNX file can do
TASKS = ("reconstruct", "encode", "decode", "frame", "train")
INPUTS = 4  # that calls go through in turn, so that nothing can come from the call before
ALLOWED = 1 / 255  # largest difference from the CPU's output in float32 with the same weights
STEPS = 16  # frames of the interpolation that `frame` divides by

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        runtime: `edgeae`, LIBRARY, or the peer's name.
        device: tinygrad's name of it.
        model: name; `weights`: how its weights are stored.
        task: `reconstruct`, `encode`, `decode`, `frame` (one of an interpolation) or `train` (a training step).
        batch: images in a call.
        width, height: in pixels.
        threads: CPU threads.
        paced: called at a camera's rhythm, with cold caches.
    """

    runtime: str
    device: str
    model: str
    weights: str
    task: str
    batch: int
    width: int
    height: int
    threads: int
    paced: bool = False

    @property
    def name(self) -> str:
        """Its own among all, and the same in every run."""
        paced = ", paced" if self.paced else ""
        return (
            f"{self.model} {self.weights}, {self.task} {self.width}×{self.height} ×{self.batch}: "
            f"{self.runtime}, {self.device}, {self.threads} threads{paced}"
        )


@dataclass
class Prepared:
    """A case that is ready to be timed.

    Attributes:
        run: does the work, of one of `inputs`.
        wanted: the outputs of float32 weights on the CPU; of a training step, none.
        exact: those of the same rounded weights, which decide whether it is right.
        artifact_bytes: size of the file that the runtime loads.
        images: that one call makes.
        exactly: whether the output has to be `exact` within ALLOWED; a peer that rounds activations is not.
    """

    case: Case
    run: Callable[[int], Any]
    wanted: list[Floats]
    exact: list[Floats]
    artifact_bytes: int
    images: int
    exactly: bool = True
    _seen: dict[int, tuple[float, float]] = field(default_factory=dict)

    def engine(self, calls: int | None = None) -> Engine:
        return Engine(self.case.name, self.run, self._check, calls)

    def _check(self, count: int, output: Any) -> None:
        if not self.exact:
            if not np.isfinite(output):
                raise WrongOutput(f"the loss became {output}")
            return
        wanted, of_floats = self.exact[count % INPUTS], self.wanted[count % INPUTS]
        if output.shape != wanted.shape:
            raise WrongOutput(f"shape {output.shape}, not {wanted.shape}")
        error = float(np.abs(output - wanted).max())
        if self.exactly and not error <= ALLOWED * self._scale:  # true of NaN
            raise WrongOutput(f"off by {error / self._scale:.1e}; {ALLOWED:.1e} is allowed")
        if not self.exactly and not np.sqrt(np.mean((output - wanted) ** 2)) < 0.1 * self._scale:
            raise WrongOutput("it is another picture")
        self._seen[count % INPUTS] = error / self._scale, float(np.mean((output - of_floats) ** 2, dtype=np.float64))

    @property
    def _scale(self) -> float:
        """1 for images; for codes, whose numbers have no range, the largest."""
        return max(1.0, *(float(np.abs(one).max()) for one in self.exact)) if self.case.task == "encode" else 1.0

    def parity(self) -> tuple[float | None, float | None]:
        """Of all outputs that were checked: the largest difference from the exact one, and of images the PSNR to those
        of float32 weights (inf where equal)."""
        if not self._seen:
            return None, None
        largest, squared = (np.array(values) for values in zip(*self._seen.values(), strict=True))
        mse = float(squared.mean())
        psnr = None if self.case.task == "encode" else -10 * math.log10(mse) if mse else math.inf
        return float(largest.max()), psnr


class Subject:
    """One model with its weights in one form, its inputs, and the outputs that are right."""

    def __init__(self, file: WeightFile, scheme: str | None, size: tuple[int, int] | None) -> None:
        self.config, self.name = file.config, Path(file.path).stem
        self.file = file if scheme in (None, file.scheme) else file.repack(scheme or "none")
        self._floats, self._rounded = file.repack("none"), self.file.repack("none")
        self.scheme = "float32" if self.file.scheme == "none" else self.file.scheme
        width, height = size or (self.config.size, self.config.size)
        if not self.config.takes_any_size and (width, height) != (self.config.size,) * 2:
            raise UsageError(f"{self.name} is a vae: it takes images of {self.config.size}×{self.config.size} only.")
        self.width, self.height = width, height
        self._outputs: dict[tuple[Any, ...], list[Floats]] = {}

    def inputs(self, task: str, batch: int) -> list[Floats]:
        """Of each call in turn: random images, or the codes of such."""
        rng = np.random.default_rng(batch)
        shape = (INPUTS, batch, self.height, self.width, self.config.in_channels)
        images = list(rng.random(shape, dtype=np.float32))
        return self.outputs(self._floats, "encode", batch) if task == "decode" else images

    def outputs(self, file: WeightFile, task: str, batch: int) -> list[Floats]:
        """On the CPU."""
        key = (id(file), task, batch)
        if key not in self._outputs:
            session = open_session(file, "CPU", batch)
            run = runner(session, task)
            self._outputs[key] = [run(x) for x in self.inputs(task, batch)]
        return self._outputs[key]

    def floats(self) -> WeightFile:
        """The weights of the model's file, in float32."""
        return self._floats

    def rounded(self) -> WeightFile:
        """Its weights as this form rounds them, in float32."""
        return self._rounded


def compiled(subject: Subject, case: Case, folder: Path) -> CompileReport:
    """The library of a case."""
    path = folder / f"{subject.name}.safetensors"
    weights.write(path, subject.file.tensors, subject.file.metadata)
    return compile(
        path, folder / "library", size=(case.width, case.height), batch=case.batch, threads=case.threads, name="network"
    )


def runner(session: Session, task: str) -> Run:
    """A task of a session, from array to array."""
    if task == "reconstruct":
        return session.run_floats
    if task == "encode":
        return session.encode
    if task == "decode":
        return lambda codes: session.decode(codes, np.float32)
    return lambda images: np.stack(
        [frame for image in images for frame in session.interpolate(image, image[::-1], steps=STEPS)]
    )


def prepare(subject: Subject, case: Case) -> Prepared:
    """A case of ours, its network loaded and not yet compiled."""
    devices.set_threads(case.threads)
    size = sum(tensor.nbytes for tensor in subject.file.tensors.values())
    if case.task == "train":
        return Prepared(case, _step(subject, case), [], [], size, case.batch)
    inputs = subject.inputs(case.task, case.batch)
    if case.runtime == LIBRARY:
        with tempfile.TemporaryDirectory() as folder:
            report = compiled(subject, case, Path(folder))
            session = load(report.library, threads=case.threads)
            size = report.size_bytes
    else:
        session = open_session(subject.file, case.device, case.batch)
    run = runner(session, case.task)
    wanted = subject.outputs(subject.floats(), case.task, case.batch)
    exact = subject.outputs(subject.rounded(), case.task, case.batch)
    return Prepared(
        case,
        lambda i: run(inputs[i % INPUTS]),
        wanted,
        exact,
        size,
        case.batch * (STEPS if case.task == "frame" else 1),
    )


def _step(subject: Subject, case: Case) -> Callable[[int], float]:
    """A training step from arrays to the loss as a number."""
    from edgeae.training.trainer import Trainer

    images = np.zeros((case.batch, subject.config.size, subject.config.size, subject.config.in_channels), np.uint8)
    split = Split(images, None, [""] * case.batch)
    settings = TrainConfig("random numbers", batch=case.batch, corrupt="none")
    with tinygrad_on(case.device):
        report = Report(settings.data, subject.config.size, case.batch, case.batch)
        trainer = Trainer(subject.config, settings, Dataset(split, split, settings.data, report), (case.device,))
    batches = [
        Batch(x, x, np.zeros(x.shape[:3], np.bool_), np.arange(len(x)), len(x))
        for x in subject.inputs("train", case.batch)
    ]
    schedule = np.array([1e-4, 0.1], np.float32)

    def step(i: int) -> float:
        with tinygrad_on(case.device), Tensor.train():
            return trainer.train_batch(batches[i % INPUTS], schedule, 0, i)["loss"]

    return step
