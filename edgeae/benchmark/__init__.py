"""How fast a model is here: on every backend, beside other runtimes, and whether the outputs are right.

`bench` is what `edgeae bench` calls. What is timed is in cases.py and peers.py, when in turns.py and cold.py, on what
in machine.py; results.py and picture.py show it. Everything that is compared ran in turns in one process, on inputs
that change from call to call, and its outputs were checked before its times count.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from edgeae.benchmark import cases, cold, peers
from edgeae.benchmark.cases import Case, Prepared, Subject
from edgeae.benchmark.machine import Watch, this_machine
from edgeae.benchmark.results import Results, Row
from edgeae.benchmark.turns import MAX_CALLS, Turns
from edgeae.errors import DeviceError, EdgeaeError, UsageError
from edgeae.exporting.onnx import onnx_bytes
from edgeae.network import weight_file as weights
from edgeae.network.shipped import DEFAULT, find_model
from edgeae.runtime.devices import probe_all, resolve, set_threads

__all__ = ["bench"]

RUNS = 100  # timed calls of each case, at least


def bench(
    models: Sequence[str | os.PathLike[str]] = (DEFAULT,),
    devices: Sequence[str] = ("auto",),
    *,
    tasks: Sequence[str] = ("reconstruct",),
    batches: Sequence[int] = (1, 32),
    size: tuple[int, int] | None = None,
    quantize: Sequence[str | None] = (None,),
    threads: Sequence[int | None] = (None,),
    with_peers: bool = False,
    pace_hz: float | None = None,
    cold_start: bool = True,
    runs: int = RUNS,
    max_secs: float = 120.0,
    on_progress: Callable[[str], None] | None = None,
) -> Results:
    """Time models.

    Args:
        models: shipped names or weight files.
        devices: tinygrad devices; `all` is every one that is usable, and names the others with the reason.
        tasks: of `reconstruct`, `encode`, `decode`, `frame` (one of an interpolation) and `train` (a training step).
        batches: images in a call.
        size: width and height in pixels; None is what the model was trained on.
        quantize: forms of the weights, see quantize.py; None is that of the file.
        threads: CPU threads; None is all.
        with_peers: also ONNX Runtime, OpenVINO and PyTorch on the same weights, on the CPU and where they can on CUDA.
        pace_hz: call at this rhythm with cold caches, as a camera does, in place of one call after the other.
        cold_start: also the first image of fresh processes, with and without compiled kernels.
        runs: timed calls of each case, unless `max_secs` pass before.
        max_secs: for the timed calls of all.
        on_progress: called with a line now and then.

    Raises:
        UsageError: an unknown task, model or device, or sizes that do not fit.
        DeviceError: none of the devices is usable.
    """
    if unknown := sorted(set(tasks) - set(cases.TASKS)):
        raise UsageError(f"unknown task {unknown[0]!r}; choose of {', '.join(cases.TASKS)}.")
    if min(batches, default=0) < 1 or runs < 1 or not max_secs > 0:
        raise UsageError("batches, runs and seconds must be more than 0.")
    tell = on_progress or (lambda line: None)
    names, left_out = _usable(devices)
    left_out += peers.missing() if with_peers else []
    counts = [set_threads(count) for count in threads]
    files = [weights.read(find_model(model)) for model in models]
    if len({file.path.stem for file in files}) < len(files):
        raise UsageError("two of the models have the same name.")
    subjects = [Subject(file, scheme, size) for file in files for scheme in quantize]
    found: dict[str, tuple[Subject, Prepared]] = {}
    tell("loading")
    for subject, case in _cases(subjects, names, tasks, batches, counts, with_peers, pace_hz is not None):
        try:
            if case.name not in found:  # a peer's float32 is asked for once, not for each of our forms of weights
                found[case.name] = subject, (peers if case.runtime in peers.PACKAGES else cases).prepare(subject, case)
        except EdgeaeError as e:
            left_out.append(f"{case.name}: {e}")
    watch, heat = Watch(), Watch()
    turns = Turns(
        [one.engine() for _, one in found.values()], pace_hz=pace_hz, is_throttled=lambda: bool(heat.strain().throttled)
    )
    tell(f"warming up {len(found)} cases")
    turns.warm_up()
    rounds = max(2, math.ceil(runs / (MAX_CALLS // 2)))
    turns.run(rounds, time.perf_counter() + max_secs, lambda r: tell(f"round {r} of {rounds}"))
    strain = watch.strain()
    rows = []
    for subject, one in found.values():
        timing = turns.timings[one.case.name]
        largest, psnr = (None, None) if timing.wrong else one.parity()
        row = Row.of(
            one.case,
            timing,
            one.images,
            largest_difference=largest,
            psnr_db=psnr,
            artifact_bytes=one.artifact_bytes,
            throttled=None if strain.throttled is None else timing.throttled,
        )
        rows.append((subject, row))
    filled = _with_cold_starts(rows, left_out, tell) if cold_start else [row for _, row in rows]
    described = this_machine(max(counts)) | {"strain": vars(strain)}
    return Results(described, filled, left_out, strain.warnings)


def _usable(wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Devices to run on, and a sentence for each that cannot."""
    if "all" not in [name.lower() for name in wanted]:
        return list(dict.fromkeys(resolve(name) for name in wanted)), []
    found = probe_all()
    names = [status.name for status in found if status.usable]
    if not names:
        raise DeviceError("no device is usable; `edgeae devices` says why.")
    return names, [f"{status.name} is left out: {status.reason}" for status in found if not status.usable]


def _cases(
    subjects: Sequence[Subject],
    names: Sequence[str],
    tasks: Sequence[str],
    batches: Sequence[int],
    threads: Sequence[int],
    with_peers: bool,
    paced: bool,
) -> Iterator[tuple[Subject, Case]]:
    for subject, task, batch, count in product(subjects, tasks, batches, threads):
        ours = Case(
            "edgeae", "", subject.name, subject.scheme, task, batch, subject.width, subject.height, count, paced
        )
        for name in names:
            if name == "CPU" or count == threads[0]:  # threads are the CPU's
                yield subject, replace(ours, device=name)
        if "CPU" in names and task in cases.HELD:
            yield subject, replace(ours, runtime=cases.LIBRARY, device="CPU")
        if with_peers and task in cases.HELD:
            for name in dict.fromkeys(["CPU", *names]):
                for runtime in peers.runtimes(name):
                    for form in peers.weights_of(runtime, name, subject.scheme):
                        if name == "CPU" or count == threads[0]:
                            yield subject, replace(ours, runtime=runtime, device=name, weights=form)


def _with_cold_starts(
    rows: Sequence[tuple[Subject, Row]], left_out: list[str], tell: Callable[[str], None]
) -> list[Row]:
    """Adds the first image of fresh processes to the first row of each model in each runtime on each device."""
    seen: set[tuple[str, ...]] = set()
    filled = []
    with tempfile.TemporaryDirectory() as folder:
        for subject, row in rows:
            case = row.case
            key = (case.model, case.weights, case.runtime, case.device)
            wanted = (
                case.task == "reconstruct"
                and not row.wrong
                and (case.runtime not in peers.PACKAGES or cold.can_start(case.runtime, case.device, case.weights))
            )
            if key in seen or not wanted:
                filled.append(row)
                continue
            seen.add(key)
            tell(f"a fresh process: {case.model}, {case.runtime} {case.device}")
            model = _file_for(case, subject, Path(folder))
            try:
                empty, full = cold.measure(model, case.runtime, case.device, case.width, case.height, case.threads)
            except cold.ColdStartError as e:
                left_out.append(f"the first image of {case.name}: {e}")
                filled.append(row)
                continue
            filled.append(replace(row, cold=empty, cached=full, peak_bytes=full.peak_bytes))
    return filled


def _file_for(case: Case, subject: Subject, folder: Path) -> Path:
    """The model as the runtime loads it; a library's by the Python file beside it."""
    if case.runtime == cases.LIBRARY:
        made = Path(cases.compiled(subject, case, folder / f"{case.model}-{case.weights}").library)
        return made.parent / "edgeae_network.py"
    suffix = "safetensors" if case.runtime == "edgeae" else "onnx"
    path = folder / f"{case.model}-{case.weights}.{suffix}"
    if not path.exists():
        if case.runtime == "edgeae":
            weights.write(path, subject.file.tensors, subject.file.metadata)
        else:
            path.write_bytes(onnx_bytes(subject.file if case.weights == "int8" else subject.rounded()))
    return path
