"""Time of compiled libraries, beside ONNX Runtime, OpenVINO and torch.compile on the same weights in float32.

All take turns in one process, on arrays in their own layout, and their outputs are compared. Then whole processes, from
start to a restored picture on disk: the example in C, a script in Python, and one with ONNX Runtime.

\b
    python tests/bench/library.py
    python tests/bench/library.py --net reference --batch 1 --threads 1 --pace 30
    python tests/bench/library.py --net faces-residual --processes
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("DEV", "CPU")

import click
import numpy as np
from networks import Net
from timing import Array, Engine, Report, json_option, must_be_close, rounds_option, table

from edgeae.benchmark.peak import peak_flops
from edgeae.benchmark.peers import channels_last, onnxruntime_run, openvino_run, torch_function
from edgeae.benchmark.turns import Turns
from edgeae.exporting.library import CompileReport, compile, targets
from edgeae.exporting.onnx import channels_first, onnx_bytes
from edgeae.network import shipped as zoo
from edgeae.network import weight_file as weights
from edgeae.network.models import build
from edgeae.network.parameters import parameters
from edgeae.network.tracing import trace
from edgeae.network.weight_file import WeightFile

INPUTS = 4
OURS, BYTES = "edgeae library, float32", "edgeae library, int8 weights"


def weight_file(name: str, folder: Path) -> Path:
    """A network with float32 weights; the reference net's are random."""
    path = folder / f"{name}.safetensors"
    if name == "reference":
        net = Net.of("reference")
        model = net.build()
        tensors = {key: value.numpy() for key, value, _ in parameters(model)}  # type: ignore[union-attr]
        metadata = weights.read(zoo.find_model("faces-conv")).metadata
        weights.write(path, tensors, metadata | {"config": net.config.to_json(), "quantize": "none"})
    else:
        file = weights.read(zoo.find_model(name)).repack("none")
        weights.write(path, file.tensors, file.metadata)
    return path


def as_int8(file: WeightFile, folder: Path) -> Path:
    path = folder / f"{file.path.stem}-int8.safetensors"
    packed = file.repack("int8")
    weights.write(path, packed.tensors, packed.metadata)
    return path


def model_of(report: CompileReport, threads: int) -> Any:
    """The Python that stands beside a library."""
    path = Path(report.library).parent / f"edgeae_{report.name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(threads=threads)


def bound(model: Any, inputs: list[Array]) -> Callable[[int], Array]:
    """`run` with everything at hand, as a program would call it for every frame."""
    outputs = [np.empty((*x.shape[:3], model.CHANNELS_OUT), np.float32) for x in inputs]
    call = model._functions["run", np.float32]
    places = [(x.ctypes.data, y.ctypes.data) for x, y in zip(inputs, outputs, strict=True)]

    def run(i: int) -> Array:
        x, y = places[i % INPUTS]
        assert call(model._handle, x, 0, y, 0, len(inputs[0])) == 0
        return outputs[i % INPUTS]

    return run


def compiled_by_torch(file: WeightFile, threads: int) -> Callable[[Array], Array]:
    import torch

    torch.set_num_threads(threads)
    torch.compiler.reset()  # it gives up on a function that it compiled for many networks
    function = torch.compile(torch_function(file, "reconstruct", "cpu"), dynamic=False)

    def run(x: Array) -> Array:
        with torch.inference_mode():
            return function(torch.from_numpy(x).contiguous(memory_format=torch.channels_last)).numpy()

    return run


def measure(
    name: str, batch: int, threads: int, pace: float | None, rounds: int, with_torch: bool, folder: Path, report: Report
) -> None:
    """One table."""
    path = weight_file(name, folder)
    with Net.of("reference")._classes() if name == "reference" else nullcontext():
        file = weights.read(path)
        ours = compile(path, folder / "f32", batch=batch, threads=threads, name="network")
        small = compile(as_int8(file, folder), folder / "int8", batch=batch, threads=threads, name="network")
        exact = weights.read(as_int8(file, folder)).repack("none")
        data = onnx_bytes(file)
        config = file.config
        shape = (batch, config.size, config.size, config.in_channels)
        flop = trace(build(config, "PYTHON").reconstruct, shape).flop
        rng = np.random.default_rng(0)
        inputs = [rng.random(shape, dtype=np.float32) for _ in range(INPUTS)]
        given = [channels_first(x) for x in inputs]
        ort, openvino = onnxruntime_run(data, threads), openvino_run(data, threads)
        of_exact = onnxruntime_run(onnx_bytes(exact), threads)
        wanted = [channels_last(ort(x)).copy() for x in given]
        wanted_small = [channels_last(of_exact(x)).copy() for x in given]
        runs: dict[str, tuple[Callable[[int], Array], list[Array]]] = {
            OURS: (bound(model_of(ours, threads), inputs), wanted),
            BYTES: (bound(model_of(small, threads), inputs), wanted_small),
            "ONNX Runtime": (lambda i: channels_last(ort(given[i % INPUTS])), wanted),
            "OpenVINO": (lambda i: channels_last(openvino(given[i % INPUTS])), wanted),
        }
        if with_torch:
            torch = compiled_by_torch(file, threads)
            runs["torch.compile"] = (lambda i: channels_last(torch(given[i % INPUTS])), wanted)

        def engine(key: str) -> Engine:
            run, expected = runs[key]
            return Engine(key, run, lambda i, y: must_be_close(y, expected[i % INPUTS], 1e-5, f"{name}, {key}"))

        turns = Turns([engine(key) for key in runs], pace_hz=pace)
        turns.warm_up()
        turns.run(rounds)
    for key, timing in turns.timings.items():
        if timing.wrong:
            raise click.ClickException(f"{key}: {timing.wrong}")
    times = {key: timing.seconds for key, timing in turns.timings.items()}
    median = {key: float(np.median(seconds)) for key, seconds in times.items()}
    best = min((key for key in median if not key.startswith("edgeae")), key=median.__getitem__)
    peak = peak_flops("CPU", threads)
    paced = f", every {1e3 / pace:.0f} ms" if pace else ""
    click.echo(f"\n{name}: batch {batch}, {threads} thread{'s' * (threads > 1)}{paced}")
    click.echo("\n".join(table(times, OURS)))
    click.echo(
        f"{median[OURS] / median[best]:.2f} of the time of {best}; {flop / median[OURS] / 1e9:.0f} GFLOP/s, "
        f"{flop / median[OURS] / peak:.0%} of the peak of {peak / 1e9:.0f}; int8 weights take "
        f"{median[BYTES] / median[OURS]:.2f} of the time, and {small.size_bytes / ours.size_bytes:.0%} of the "
        f"{ours.size_bytes:,} bytes; compiled in {ours.seconds:.1f} s"
    )
    report.results[f"{name}, batch {batch}, {threads} threads{paced}"] = times


_SCRIPT = """
import sys
import numpy as np
from edgeae_network import Model
with open(sys.argv[1], "rb") as file:
    image = np.frombuffer(file.read()[-{size}:], np.uint8).reshape({shape})
restored = Model().run(image)
with open(sys.argv[2], "wb") as file:
    file.write(b"P6\\n{width} {height}\\n255\\n" + restored.tobytes())
"""
_ONNX_SCRIPT = """
import sys
import numpy as np, onnxruntime
with open(sys.argv[1], "rb") as file:
    image = np.frombuffer(file.read()[-{size}:], np.uint8).reshape({shape})
session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
x = np.ascontiguousarray(image.transpose(2, 0, 1)[None] / np.float32(255), np.float32)
y = session.run(None, {{"image": x}})[0][0].transpose(1, 2, 0)
with open(sys.argv[2], "wb") as file:
    file.write(b"P6\\n{width} {height}\\n255\\n" + np.rint(y * 255).astype(np.uint8).tobytes())
"""


# Linux counts in a process's memory what the one had that started it, so that a small one has to start it.
_LAUNCHER = """
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **arguments)
{
    int status;
    struct rusage usage;
    (void)count;
    const pid_t child = fork();
    if (child == 0) return execvp(arguments[1], arguments + 1);
    if (wait4(child, &status, 0, &usage) != child) return 1;
    printf("%ld\\n", usage.ru_maxrss);
    return status != 0;
}
"""


def processes(name: str, folder: Path, repeat: int) -> None:
    """Seconds and memory of whole processes, in turns."""
    path = zoo.find_model(name)
    file = weights.read(path)
    report = compile(path, folder / "whole", name="network")
    place, side = Path(report.library).parent, file.config.size
    shape = (side, side, file.config.in_channels)
    values = {"size": int(np.prod(shape)), "shape": shape, "width": side, "height": side}
    (place / "script.py").write_text(_SCRIPT.format(**values))
    (place / "onnx_script.py").write_text(_ONNX_SCRIPT.format(**values))
    (place / "network.onnx").write_bytes(onnx_bytes(file.repack("none")))
    subprocess.run(
        [*targets.toolchain().command, "-O2", "-o", "example", "example.c", "-L.", "-lnetwork", "-Wl,-rpath,$ORIGIN"],
        cwd=place,
        check=True,
    )
    (place / "launcher.c").write_text(_LAUNCHER)
    subprocess.run([*targets.toolchain().command, "-O2", "-o", "launcher", "launcher.c"], cwd=place, check=True)
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    (place / "in.ppm").write_bytes(f"P6\n{side} {side}\n255\n".encode() + picture.tobytes())
    commands = {
        "C": ["./example"],
        "Python": [sys.executable, "script.py"],
        "Python, ONNX Runtime": [sys.executable, "onnx_script.py"],
    }
    seconds: dict[str, list[float]] = {key: [] for key in commands}
    memory: dict[str, int] = {}
    for _ in range(repeat):
        for key, command in commands.items():
            started = time.perf_counter()
            done = subprocess.run(
                ["./launcher", *command, "in.ppm", "out.ppm"], cwd=place, capture_output=True, text=True
            )
            seconds[key].append(time.perf_counter() - started)
            if done.returncode:
                raise click.ClickException(f"{key} failed: {done.stderr}")
            memory[key] = int(done.stdout)
    click.echo(f"\n{name}: a process, from its start to a restored {side}×{side} picture on disk")
    click.echo("\n".join(table(seconds, "C")))
    click.echo(", ".join(f"{key}: {kib / 1024:.1f} MiB" for key, kib in memory.items()))


@click.command(help=__doc__)
@click.option("--net", "nets", multiple=True, help="reference, or a shipped model; may be given more than once.  [all]")
@click.option("--batch", type=int, multiple=True, default=(1, 32), show_default=True)
@click.option("--threads", type=int, multiple=True, default=(2, 1), show_default=True)
@click.option("--pace", type=float, default=None, help="Calls a second, with cold caches.")
@click.option("--torch/--no-torch", default=True, show_default=True, help="torch.compile too, which takes its time.")
@click.option("--processes", "whole", is_flag=True, help="Whole processes only.")
@rounds_option
@json_option
def main(
    nets: tuple[str, ...],
    batch: tuple[int, ...],
    threads: tuple[int, ...],
    pace: float | None,
    torch: bool,
    whole: bool,
    rounds: int,
    json_path: Path | None,
) -> None:
    report = Report(max(threads), json_path)
    click.echo("\n".join(report.header()))
    for name in nets or ("reference", *zoo.names()):
        with tempfile.TemporaryDirectory() as folder:
            if whole:
                if name != "reference":
                    processes(name, Path(folder), 20)
                continue
            for count in batch:
                for cores in threads:
                    measure(name, count, cores, pace, rounds, torch, Path(folder), report)
    click.echo("\n".join(report.finish()))


if __name__ == "__main__":
    main()
