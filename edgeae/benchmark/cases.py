"""What is timed: a task of a model on a device, in one runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeae.benchmark import train_step
from edgeae.benchmark.checks import LOSS_TOLERANCES, Check, LossCheck, OutputCheck
from edgeae.benchmark.turns import Engine
from edgeae.errors import UsageError
from edgeae.exporting.library import CompileReport, compile
from edgeae.inference.load import load, open_session
from edgeae.inference.session import Session
from edgeae.network.weight_file import WeightFile, write
from edgeae.runtime import devices

LIBRARY = "edgeae library"  # the runtime that `edgeae compile` makes
EXPORTED_TASKS = ("reconstruct", "encode", "decode")  # what a compiled library and an ONNX file can do
TASKS = (*EXPORTED_TASKS, "frame", "train")
INPUTS = 4  # calls go through as many in turn, so that no output can come from the call before
FRAMES = 16  # of the interpolation, by which the time of `frame` is divided

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        runtime: `edgeae`, LIBRARY, or the peer's name.
        device: tinygrad's name of it.
        model: its name.
        weights: how they are stored, such as `int8`.
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
        """Unique among all cases, and the same in every run."""
        paced = ", paced" if self.paced else ""
        return (
            f"{self.model} {self.weights}, {self.task} {self.width}×{self.height} ×{self.batch}: "
            f"{self.runtime}, {self.device}, {self.threads} threads{paced}"
        )


@dataclass
class Prepared:
    """A case that is ready to be timed.

    Attributes:
        run: does the work of the call with this number.
        check: compares what it returned.
        artifact_bytes: size of the file that the runtime loads.
        images: that one call makes.
    """

    case: Case
    run: Callable[[int], Any]
    check: Check
    artifact_bytes: int
    images: int

    def engine(self) -> Engine:
        """Return it as an engine that takes turns."""
        return Engine(self.case.name, self.run, self.check)


class Subject:
    """One model with its weights in one form, its inputs, and the outputs that are right.

    Args:
        file: the model.
        scheme: form of the weights, see quantize.py; None is that of the file.
        size: width and height in pixels; None is what the model was trained on.

    Attributes:
        name: of the model.
        scheme: form of the weights, `float32` for `none`.
        file: the weights in this form.
        rounded: the same as float32: those that this form rounds them to.
        unrounded: float32 weights of the model's file.
        width, height: in pixels.
    """

    def __init__(self, file: WeightFile, scheme: str | None, size: tuple[int, int] | None) -> None:
        self.config, self.name = file.config, Path(file.path).stem
        self.file = file if scheme in (None, file.scheme) else file.repack(scheme or "none")
        self.rounded, self.unrounded = self.file.repack("none"), file.repack("none")
        self.scheme = "float32" if self.file.scheme == "none" else self.file.scheme
        width, height = size or (self.config.size, self.config.size)
        if not self.config.takes_any_size and (width, height) != (self.config.size,) * 2:
            raise UsageError(f"{self.name} is a vae: it takes images of {self.config.size}×{self.config.size} only.")
        self.width, self.height = width, height
        self._outputs: dict[tuple[int, str, int], list[Floats]] = {}
        self._losses: dict[int, list[float]] = {}

    def inputs(self, task: str, batch: int) -> list[Floats]:
        """Return the inputs that calls go through in turn: random images, or for `decode` the codes of such."""
        if task == "decode":
            return self._outputs_of(self.unrounded, "encode", batch)
        shape = (INPUTS, batch, self.height, self.width, self.config.in_channels)
        return list(np.random.default_rng(batch).random(shape, dtype=np.float32))

    def check_outputs(self, task: str, batch: int, *, rounds_activations: bool = False) -> OutputCheck:
        """Return the check of a task; what it compares with is computed on the CPU."""
        expected, unrounded = (self._outputs_of(file, task, batch) for file in (self.rounded, self.unrounded))
        return OutputCheck(expected, unrounded, are_codes=task == "encode", rounds_activations=rounds_activations)

    def check_losses(self, batch: int) -> LossCheck:
        """Return the check of a training from the rounded weights; its first steps are computed on the CPU."""
        if batch not in self._losses:
            step = self.train_step(batch, "CPU")
            self._losses[batch] = [step(number) for number in range(len(LOSS_TOLERANCES))]
        return LossCheck(self._losses[batch])

    def train_step(self, batch: int, device: str) -> Callable[[int], float]:
        """Return a training step from the rounded weights as a function of its number; see train_step.py."""
        trainer = train_step.make_trainer(self.rounded, batch, device)
        return train_step.step_function(trainer, self.inputs("train", batch), device)

    def _outputs_of(self, file: WeightFile, task: str, batch: int) -> list[Floats]:
        key = (id(file), task, batch)
        if key not in self._outputs:
            run = task_function(open_session(file, "CPU", batch), task)
            self._outputs[key] = [run(x) for x in self.inputs(task, batch)]
        return self._outputs[key]


def compile_library(subject: Subject, case: Case, folder: Path) -> CompileReport:
    """Compile the library of a case into a folder."""
    path = folder / f"{subject.name}.safetensors"
    write(path, subject.file.tensors, subject.file.metadata)
    return compile(
        path, folder / "library", size=(case.width, case.height), batch=case.batch, threads=case.threads, name="network"
    )


def task_function(session: Session, task: str) -> Run:
    """Return a task of a session as a function from array to array."""
    if task == "reconstruct":
        return session.run_floats
    if task == "encode":
        return session.encode
    if task == "decode":
        return lambda codes: session.decode(codes, np.float32)
    return lambda images: np.stack(
        [frame for image in images for frame in session.interpolate(image, image[::-1], steps=FRAMES)]
    )


def prepare(subject: Subject, case: Case) -> Prepared:
    """Load the network of a case of ours; nothing is compiled yet."""
    devices.set_threads(case.threads)
    size = sum(tensor.nbytes for tensor in subject.file.tensors.values())
    if case.task == "train":
        step = subject.train_step(case.batch, case.device)
        return Prepared(case, step, subject.check_losses(case.batch), size, case.batch)
    if case.runtime == LIBRARY:
        with tempfile.TemporaryDirectory() as folder:
            report = compile_library(subject, case, Path(folder))
            session = load(report.library, threads=case.threads)
            size = report.size_bytes
    else:
        session = open_session(subject.file, case.device, case.batch)
    run, inputs = task_function(session, case.task), subject.inputs(case.task, case.batch)
    images = case.batch * (FRAMES if case.task == "frame" else 1)
    check = subject.check_outputs(case.task, case.batch)
    return Prepared(case, lambda number: run(inputs[number % INPUTS]), check, size, images)
