"""`edgeae profile`."""

from __future__ import annotations

import click

from edgeae.cli.console import emit
from edgeae.cli.options import TEXT, Size, device_option, json_option, options, threads_option
from edgeae.cli.program import command
from edgeae.formatting import table


@command()
@click.argument("model", type=TEXT)
@options(
    device_option,
    click.option("--batch", type=click.IntRange(1, 4096), default=1, show_default=True, help="Images in a call."),
    click.option(
        "--size",
        type=Size(),
        default=None,
        metavar="WxH",
        help="Of the images.  [default: what the model was trained on]",
    ),
    threads_option,
    json_option,
)
def profile(
    model: str, device: str | None, batch: int, size: tuple[int, int] | None, threads: int | None, as_json: bool
) -> None:
    """Tell where a model's time goes, layer by layer.

    Each layer is timed by itself; "of peak" is its share of the multiply-adds that this machine can do at most, which
    are measured too.

    \b
        edgeae profile faces-residual -d CPU --batch 32
    """
    from edgeae.benchmark.machine import headline
    from edgeae.benchmark.profile import profile as measure

    found = measure(model, device, batch=batch, size=size, threads=threads)
    rows = [
        [
            layer.name,
            layer.kind,
            "×".join(map(str, layer.output)),
            f"{layer.flop / 1e6:.1f}",
            f"{layer.bytes / 1e3:.0f}",
            f"{layer.ms:.3f}",
            f"{layer.share:.0%}",
            f"{layer.of_peak:.0%}",
        ]
        for layer in found.layers
    ]
    flop = sum(layer.flop for layer in found.layers)
    total = sum(layer.ms for layer in found.layers)
    rows.append(
        [
            "all layers",
            "",
            "",
            f"{flop / 1e6:.1f}",
            f"{sum(layer.bytes for layer in found.layers) / 1e3:.0f}",
            f"{total:.3f}",
            "100%",
            f"{flop / total / 1e6 / found.peak_gflops:.0%}",
        ]
    )
    header = ["layer", "", "output", "MFLOP", "kB", "ms", "of time", "of peak"]
    emit(
        found,
        [
            *headline(found.machine),
            "",
            f"{found.model} on {found.device}, {found.batch} image{'s' * (found.batch > 1)} of "
            f"{found.width}×{found.height}; peak {found.peak_gflops:,.0f} GFLOP/s",
            "",
            *table(header, rows, right=range(3, 8)),
            "",
            f"the network as one graph: {found.ms:.3f} ms, {flop / found.ms / 1e6:,.0f} GFLOP/s, "
            f"{flop / found.ms / 1e6 / found.peak_gflops:.0%} of the peak",
        ],
        as_json,
    )
