"""Benchmark models: their speed on every backend, beside other runtimes, with their outputs checked.

`bench` is what `edgeae bench` calls, `profile.profile` what `edgeae profile` calls. A `Case` is one row of the table, a
`Subject` one model with its inputs and right outputs, and `Prepared` a case that is loaded (all three in cases.py, for
other runtimes peers.py and pytorch.py). `Turns` times them in turn in one process (turns.py), `cold.measure` the first
image of a fresh process. machine.py says what they ran on; results.py and picture.py show the figures.
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
from edgeae.benchmark.machine import Watch, describe_machine
from edgeae.benchmark.results import Results, Row
from edgeae.benchmark.turns import MAX_CALLS, Timing, Turns
from edgeae.errors import DeviceError, EdgeaeError, UsageError
from edgeae.exporting.onnx import onnx_bytes
from edgeae.network.shipped import DEFAULT, find_model
from edgeae.network.weight_file import read, write
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
    """Time models, every case in turn, and check their outputs.

    Args:
        models: shipped names or weight files.
        devices: tinygrad devices; `all` is every one that is usable, and names the others with the reason.
        tasks: of `reconstruct`, `encode`, `decode`, `frame` (one of an interpolation) and `train` (a training step).
        batches: images in a call.
        size: width and height in pixels; None is what the model was trained on.
        quantize: forms of the weights, see quantize.py; None is that of the file.
        threads: CPU threads; None is all.
        with_peers: also ONNX Runtime, OpenVINO, PyTorch and torch.compile on the same weights, on the CPU and where
            they can on CUDA. PyTorch trains too.
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
    report = on_progress or (lambda line: None)
    names, left_out = _resolve_devices(devices)
    left_out += peers.describe_missing() if with_peers else []
    counts = [set_threads(count) for count in threads]
    files = [read(find_model(model)) for model in models]
    if len({file.path.stem for file in files}) < len(files):
        raise UsageError("two of the models have the same name.")
    subjects = [Subject(file, scheme, size) for file in files for scheme in quantize]
    prepared: dict[str, tuple[Subject, Prepared]] = {}
    for subject, case in _list_cases(subjects, names, tasks, batches, counts, with_peers, pace_hz is not None):
        if case.name in prepared:  # a peer's float32 is the same for each of our forms of weights
            continue
        report(f"loading {case.name}")
        try:
            prepared[case.name] = subject, (peers if case.runtime in peers.PACKAGES else cases).prepare(subject, case)
        except EdgeaeError as e:
            left_out.append(f"{case.name}: {e}")
    watch, throttling = Watch(), Watch()
    turns = Turns(
        [one.engine() for _, one in prepared.values()],
        pace_hz=pace_hz,
        is_throttled=lambda: bool(throttling.strain().throttled),
    )
    report(f"warming up {len(prepared)} cases")
    turns.warm_up()
    rounds = max(2, math.ceil(runs / (MAX_CALLS // 2)))
    turns.run(rounds, time.perf_counter() + max_secs, lambda r: report(f"round {r} of {rounds}"))
    strain = watch.strain()
    rows = [
        (subject, _row(one, turns.timings[one.case.name], is_throttling_known=strain.throttled is not None))
        for subject, one in prepared.values()
    ]
    filled = _add_cold_starts(rows, left_out, report) if cold_start else [row for _, row in rows]
    machine = describe_machine(max(counts)) | {"strain": vars(strain)}
    return Results(machine, filled, left_out, strain.warnings)


def _row(prepared: Prepared, timing: Timing, is_throttling_known: bool) -> Row:
    difference, psnr = (None, None) if timing.wrong else prepared.check.parity()
    return Row.of(
        prepared.case,
        timing,
        prepared.images,
        largest_difference=difference,
        psnr_db=psnr,
        artifact_bytes=prepared.artifact_bytes,
        throttled=timing.throttled if is_throttling_known else None,
    )


def _resolve_devices(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the devices to run on, and a sentence for each that cannot."""
    if "all" not in [name.lower() for name in names]:
        return list(dict.fromkeys(resolve(name) for name in names)), []
    statuses = probe_all()
    usable = [status.name for status in statuses if status.usable]
    if not usable:
        raise DeviceError("no device is usable; `edgeae devices` says why.")
    return usable, [f"{status.name} is left out: {status.reason}" for status in statuses if not status.usable]


def _list_cases(
    subjects: Sequence[Subject],
    names: Sequence[str],
    tasks: Sequence[str],
    batches: Sequence[int],
    threads: Sequence[int],
    with_peers: bool,
    paced: bool,
) -> Iterator[tuple[Subject, Case]]:
    for subject, task, batch, count in product(subjects, tasks, batches, threads):
        form = "float32" if task == "train" else subject.scheme
        ours = Case("edgeae", "CPU", subject.name, form, task, batch, subject.width, subject.height, count, paced)
        on = [name for name in names if name == "CPU" or count == threads[0]]  # the number of threads is the CPU's
        yield from ((subject, replace(ours, device=name)) for name in on)
        if "CPU" in names and task in cases.EXPORTED_TASKS:
            yield subject, replace(ours, runtime=cases.LIBRARY)
        for name in dict.fromkeys(["CPU", *on]) if with_peers else ():
            for runtime in peers.list_peers(task, name):
                peer = replace(ours, runtime=runtime, device=name)
                yield from ((subject, replace(peer, weights=form)) for form in peers.list_weight_forms(peer))


def _add_cold_starts(
    rows: Sequence[tuple[Subject, Row]], left_out: list[str], report: Callable[[str], None]
) -> list[Row]:
    """Add the first image of fresh processes to the first row of each model in each runtime on each device."""
    seen: set[tuple[str, ...]] = set()
    filled = []
    with tempfile.TemporaryDirectory() as folder:
        for subject, row in rows:
            case = row.case
            key = (case.model, case.weights, case.runtime, case.device)
            is_timed = case.task == "reconstruct" and not row.wrong
            if key in seen or not is_timed or not cold.can_measure(case.runtime, case.device, case.weights):
                filled.append(row)
                continue
            seen.add(key)
            report(f"a fresh process: {case.model}, {case.runtime} {case.device}")
            model = _write_model(case, subject, Path(folder))
            try:
                empty, full = cold.measure(model, case.runtime, case.device, case.width, case.height, case.threads)
                filled.append(replace(row, cold=empty, cached=full, peak_bytes=full.peak_bytes))
            except cold.ColdStartError as e:
                left_out.append(f"the first image of {case.name}: {e}")
                filled.append(row)
    return filled


def _write_model(case: Case, subject: Subject, folder: Path) -> Path:
    """Write the model as the runtime loads it, and return its path: for a library, of the Python file beside it."""
    if case.runtime == cases.LIBRARY:
        report = cases.compile_library(subject, case, folder / f"{case.model}-{case.weights}")
        return Path(report.library).parent / "edgeae_network.py"
    suffix = "safetensors" if case.runtime == "edgeae" else "onnx"
    path = folder / f"{case.model}-{case.weights}.{suffix}"
    if not path.exists():
        if case.runtime == "edgeae":
            write(path, subject.file.tensors, subject.file.metadata)
        else:
            path.write_bytes(onnx_bytes(subject.file if case.weights == "int8" else subject.rounded))
    return path
