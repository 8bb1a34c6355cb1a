"""`edgeae profile`: time each layer of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeae.cli.console import emit
from edgeae.cli.options import TEXT, batch_option, device_option, json_option, options, size_option, threads_option
from edgeae.cli.program import command
from edgeae.formatting import table

if TYPE_CHECKING:
    from edgeae.benchmark.profile import Profile


@command()
@click.argument("model", type=TEXT)
@options(
    device_option,
    batch_option(1, 4096),
    size_option,
    threads_option(),
    json_option,
)
def profile(
    model: str, device: str | None, batch: int, size: tuple[int, int] | None, threads: int | None, as_json: bool
) -> None:
    """Show how long each layer of a model takes.

    Each layer is timed by itself. "of peak" is its speed as a share of the most multiply-adds that this machine can do,
    which is measured too.

    \b
        edgeae profile faces-residual -d CPU --batch 32
    """
    from edgeae.benchmark.machine import headline
    from edgeae.benchmark.profile import profile as measure

    result = measure(model, device, batch=batch, size=size, threads=threads)
    flop = sum(layer.flop for layer in result.layers)
    gflops = flop / result.ms / 1e6
    emit(
        result,
        [
            *headline(result.machine),
            "",
            f"{result.model} on {result.device}, {result.batch} image{'s' * (result.batch > 1)} of "
            f"{result.width}×{result.height}; peak {result.peak_gflops:,.0f} GFLOP/s",
            "",
            *_layer_table(result),
            "",
            f"the network as one graph: {result.ms:.3f} ms, {gflops:,.0f} GFLOP/s, "
            f"{gflops / result.peak_gflops:.0%} of the peak",
        ],
        as_json,
    )


def _layer_table(profile: Profile) -> list[str]:
    """Return the lines of a table: the work and the time of each layer, and of all."""
    layers = profile.layers

    def row(name: str, kind: str, output: str, flop: float, size_bytes: float, ms: float, *shares: float) -> list[str]:
        work = f"{flop / 1e6:.1f}", f"{size_bytes / 1e3:.0f}", f"{ms:.3f}"
        return [name, kind, output, *work, *(f"{share:.0%}" for share in shares)]

    rows = [
        row(one.name, one.kind, "×".join(map(str, one.output)), one.flop, one.bytes, one.ms, one.share, one.of_peak)
        for one in layers
    ]
    flop, ms = sum(one.flop for one in layers), sum(one.ms for one in layers)
    of_peak = flop / ms / 1e6 / profile.peak_gflops
    rows.append(row("all layers", "", "", flop, sum(one.bytes for one in layers), ms, 1, of_peak))
    header = ["layer", "", "output", "MFLOP", "kB", "ms", "of time", "of peak"]
    return table(header, rows, right=range(3, 8))
