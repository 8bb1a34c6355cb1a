"""Write models/README.md: the shipped models, their data, and their scores beside methods without learning.

    python tools/score_tables.py --data DATA [-o models] [--runs runs/shipped] [--limit N]

DATA holds `faces`, `photos` and `digits`, as for make_models.py, which calls this. `--runs` holds the float32
originals, from which the cost of quantization is measured. Needs `pip install ".[peers,samples]"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import click
import numpy as np
import score_models
from score_models import Floats, Measures, Photos

from edgeae.data.datasets import open_dataset
from edgeae.images import metrics
from edgeae.inference.load import load
from edgeae.inference.session import Session
from edgeae.network.describe import describe

FOR_QUANTIZATION = 200  # images; more change the differences little
HOLES = ("square", "square, hole", "centre", "centre, hole")
ATTRIBUTION = [
    "Face Research Lab London Set (DeBruine and Jones 2017, version 5, doi 10.6084/m9.figshare.5047666.v5), CC BY 4.0; "
    "cropped and resized.",
    "Caltech-101 (Li, Andreetto, Ranzato and Perona 2022, doi 10.22002/D1.20086), CC BY 4.0; resized.",
    "MNIST (LeCun, Cortes and Burges 1998), CC BY-SA 3.0.",
    "The weights of `digits-vae` are under CC BY-SA 3.0, all others under CC BY 4.0.",
]


class Scorer:
    """Scores models on the validation images of their kind, which are opened once."""

    def __init__(self, data: Path, limit: int | None) -> None:
        self._data, self._limit = data, limit

    @cache  # noqa: B019, one object lives as long as the program
    def clean(self, kind: str, size: int) -> Floats:
        if kind == "photos":
            return self.photos().clean
        split = open_dataset(self._data / kind, size=size, channels=1 if kind == "digits" else 3).val
        return (split.inputs[: self._limit] / np.float32(255)).astype(np.float32)

    @cache  # noqa: B019
    def photos(self) -> Photos:
        return Photos.open(self._data, self._limit)

    def score(self, name: str, session: Session) -> Measures:
        """Return all measures of one model."""
        kind = name.split("-")[0]
        clean = self.clean(kind, session.config.size)
        if session.config.arch == "vae":
            return score_models.vae_measures(session, clean)
        found = score_models.undamaged_measures(session, clean)
        found |= score_models.hole_measures(clean, score_models.network_alone(session))
        masked = score_models.hole_measures(clean, score_models.with_mask(session))
        found |= {f"{key}, mask": value for key, value in masked.items()}
        return found | (self.photos().score(session) if kind == "photos" else {})

    def pca(self, size: int, components: int) -> float:
        """Return the PSNR of faces from principal components of the aligned training faces and their mirror images."""
        train = open_dataset(self._data / "faces", size=size).train.inputs / np.float32(255)
        both = np.concatenate([train, train[:, :, ::-1]]).astype(np.float32)
        return score_models.pca_psnr(both, self.clean("faces", size), components)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table and an empty line."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def numbers(found: Measures, keys: Sequence[str], digits: int = 2) -> list[str]:
    return [f"{found[key]:.{digits}f}" if key in found else "" for key in keys]


def hole_table(kind: str, scorer: Scorer, scores: dict[str, Measures]) -> list[str]:
    clean = scorer.clean(kind, score_models.SIDE)
    rows = [
        [name, *numbers(score_models.hole_measures(clean, fill), HOLES), "", "", ""]
        for name, fill in score_models.WITHOUT_LEARNING.items()
    ]
    for name, found in scores.items():
        if name.startswith(kind) and "centre" in found:
            own = [*numbers(found, ["undamaged"]), *numbers(found, ["ssim", "sharpness"], 3)]
            rows += [
                [f"`{name}`, all its own", *numbers(found, HOLES), *own],
                [f"`{name}`, `--mask`", *numbers(found, [f"{key}, mask" for key in HOLES]), "", "", ""],
            ]
    header = ["square of 1/16", "in the hole", "centre, 1/4", "in the hole", "undamaged", "SSIM", "sharpness"]
    return table([f"{kind}: PSNR, dB", *header], rows)


def photo_table(data: Path, scorer: Scorer, scores: dict[str, Measures]) -> list[str]:
    photos = scorer.photos()
    name, denoised = score_models.non_local_means(photos.noisy)
    keys = ("noise", "jpeg", "colour")
    coloured = np.broadcast_to(score_models.mean_colour(data), (*photos.clean.shape[:3], 2))
    mean = score_models.ab_error(coloured, photos.clean)
    rows = [
        ["damaged", *numbers(photos.measures(*(t.inputs for t in (photos.noisy, photos.jpeg, photos.grey))), keys)],
        [name, f"{metrics.pooled_psnr(denoised, photos.clean):.2f}", "", ""],
        ["mean colour of training photos", "", "", f"{mean:.2f}"],
        *([f"`{model}`", *numbers(found, keys)] for model, found in scores.items() if "noise" in found),
    ]
    return table(["", "noise σ = 25/255, PSNR, dB", "JPEG quality 10, PSNR, dB", "gray, error in a,b"], rows)


def vae_table(scorer: Scorer, scores: dict[str, Measures], sizes: dict[str, tuple[int, int]]) -> list[str]:
    rows = []
    for name, found in scores.items():
        if "nats" in found:
            size, code = sizes[name]
            pca = f"{scorer.pca(size, code):.2f}" if name.startswith("faces") else ""
            nats = numbers(found, ["recon", "kl", "nats"]) if name.startswith("digits") else ["", "", ""]
            rows.append(
                [
                    f"`{name}`",
                    f"{code}",
                    *numbers(found, ["psnr"]),
                    pca,
                    *nats,
                    f"{found['active']:.0f}",
                    *numbers(found, ["largest step"]),
                ]
            )
    return table(
        [
            "",
            "numbers",
            "PSNR, dB",
            "PCA's PSNR, dB",
            "BCE, nats",
            "KL, nats",
            "sum",
            "dimensions in use",
            "largest step / mean",
        ],
        rows,
    )


QUANTIZED = {
    "square, hole": "square, hole",
    "centre, hole": "centre, hole",
    "undamaged": "undamaged",
    "noise": "noise",
    "jpeg": "JPEG",
    "psnr": "PSNR",
}


def quantization_table(scorer: Scorer, runs: Path, sessions: dict[str, Session], device: str | None) -> list[str]:
    """Tabulate the loss of int8 and int4 in dB against the float32 originals."""
    rows = []
    for name, session in sessions.items():
        run = runs / f"{name}-finish" if (runs / f"{name}-finish").exists() else runs / name
        best, int4 = run / "best.safetensors", run / "int4.safetensors"
        if not best.exists():
            continue
        click.echo(f"{name}: what quantization costs", err=True)
        original = scorer.score(name, load(best, device))
        found = {"int8": scorer.score(name, session)}
        if int4.exists():
            found["int4"] = scorer.score(name, load(int4, device))
        rows += [
            [f"`{name}`", scheme, *(f"{original[key] - one[key]:+.3f}" if key in one else "" for key in QUANTIZED)]
            for scheme, one in found.items()
        ]
    return table(["lost to float32, dB", "", *QUANTIZED.values()], rows)


def write_readme(output: Path, data: Path, runs: Path, device: str | None, limit: int | None = None) -> None:
    """Write `models/README.md`."""
    scorer = Scorer(data, limit)
    names = sorted(path.stem for path in output.glob("*.safetensors"))
    found = {name: describe(output / f"{name}.safetensors") for name in names}
    sessions = {name: load(output / f"{name}.safetensors", device) for name in names}
    sizes = {name: (session.config.size, session.config.code) for name, session in sessions.items()}
    scores = {}
    for name, session in sessions.items():
        click.echo(f"{name}: scoring", err=True)
        scores[name] = scorer.score(name, session)
    counted = [
        f"{len(scorer.clean(kind, size)):,} {what}"
        for kind, size, what in (
            ("faces", score_models.SIDE, "faces of people"),
            ("photos", score_models.SIDE, "photos"),
            ("digits", 28, "digits"),
        )
        if any(name.startswith(kind) for name in names)
    ]
    lines = [
        "# Shipped models",
        "",
        "Made by `python tools/make_models.py`, int8. Load one by its name: `edgeae run -m faces-conv photo.jpg`. "
        "How training went is in [`curves/`](curves).",
        "",
        *table(
            ["model", "architecture", "image", "parameters", "MFLOP an image", "code", "bytes", "trained on"],
            [
                [
                    f"`{name}`",
                    d["architecture"],
                    d["image"].split(",")[0],
                    f"{d['parameters']:,}",
                    f"{d['mflop_an_image']:.0f}",
                    f"{d['code_size']:,} numbers, {d['compression_ratio']}:1",
                    f"{d['size_bytes']:,}",
                    d["train_data"],
                ]
                for name, d in found.items()
            ],
        ),
        "## Scores",
        "",
        f"On validation images that were not trained on: {', '.join(counted)}. The epoch that is shipped was chosen by "
        "its PSNR on them; while the recipes were made, learning rates and other settings were looked at there too, so "
        "that these scores flatter a little. PSNR is that of the mean squared error over all pixels of all images. "
        "Sharpness is the amplitude of fine detail relative to the original, on undamaged input "
        "(`edgeae.images.metrics.sharpness`). Tables by `python tools/score_tables.py`.",
        "",
        f"### Holes, {score_models.SIDE}×{score_models.SIDE}",
        "",
        '"All its own" is the network\'s output as it is, of the picture with the hole in gray; `--mask` is what '
        "`edgeae run --mask` makes of it, whose pixels outside the hole are the photo's.",
        "",
    ]
    for kind in ("faces", "photos"):
        if f"{kind}-residual" in names:
            lines += hole_table(kind, scorer, scores)
    if "photos-residual" in names:
        lines += [
            "### Noise, JPEG and colour in photos",
            "",
            "Non-local means at the setting that was best of 75 on these images. The error in colour is the root "
            "mean squared distance in the a,b plane of CIELAB.",
            "",
            *photo_table(data, scorer, scores),
        ]
    lines += [
        "### Codes",
        "",
        "PCA's components are of the aligned training faces and their mirror images. A dimension is in use where its "
        "KL is more than 0.1 nats. The largest step is that of 15 from one validation image to the next, as root mean "
        "squared differences.",
        "",
        *vae_table(scorer, scores, sizes),
        "### What quantization costs",
        "",
        f"Of the float32 network's decibels, on up to {FOR_QUANTIZATION} of the images. int4 by "
        "`edgeae export --quantize int4 --tune EPOCHS`; its files are not shipped.",
        "",
        *quantization_table(Scorer(data, min(limit or FOR_QUANTIZATION, FOR_QUANTIZATION)), runs, sessions, device),
    ]
    ablation = output / "ablation.md"
    if ablation.exists():
        lines += [ablation.read_text(encoding="utf-8")]
    lines += ["## Attribution", "", *(f"- {line}" for line in ATTRIBUTION), ""]
    (output / "README.md").write_text("\n".join(lines), encoding="utf-8")


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("models"))
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/shipped"))
@click.option("-d", "--device", default=None)
@click.option("--limit", type=int, default=None, help="Of validation images, for a quick look.")
def main(data: Path, output: Path, runs: Path, device: str | None, limit: int | None) -> None:
    write_readme(output, data, runs, device, limit)


if __name__ == "__main__":
    main()
