"""Remove noise, and compare with filters that need no training: Gaussian, median, OpenCV's non-local means.

    python examples/denoise.py                     # generated faces, about 2 minutes on two cores
    python examples/denoise.py --data photos/      # your own
    edgeae run -m runs/denoise/best.safetensors noisy.jpg

The network is a `conv` that halves the size once and has no small code: a chain of convolutions at half the size, as
in FFDNet (Zhang, Zuo, Zhang, 2018), without a skip connection that would let noise through. Each filter gets the
strength that is best for these very pictures, an advantage that it does not have in practice. Prints PSNR; writes
denoise.png.
"""

from collections.abc import Callable

import common
import numpy as np
from PIL import Image, ImageFilter

import edgeae
from edgeae.images.arrays import to_float, to_uint8
from edgeae.images.metrics import pooled_psnr

Filter = Callable[[np.ndarray], np.ndarray]


def filters() -> dict[str, list[Filter]]:
    """Return each kind of filter in several strengths; a filter maps uint8 (H, W, 3) to the same."""

    def pillow(kind: ImageFilter.Filter) -> Filter:
        return lambda image: np.asarray(Image.fromarray(image).filter(kind))

    filters_by_kind = {
        "Gaussian filter": [pillow(ImageFilter.GaussianBlur(r / 4)) for r in range(2, 9)],
        "median filter": [pillow(ImageFilter.MedianFilter(side)) for side in (3, 5)],
    }
    try:
        import cv2
    except ImportError:
        return filters_by_kind

    def means(strength: int) -> Filter:
        return lambda image: np.asarray(cv2.fastNlMeansDenoisingColored(image, None, strength, strength, 5, 15))

    return {**filters_by_kind, "non-local means": [means(strength) for strength in range(10, 71, 10)]}


def main(arguments: list[str] | None = None) -> common.Rows:
    parser = common.flags(__doc__, "denoise", epochs=10, limit=1100)
    parser.add_argument("--noise", type=float, default=0.15, help="standard deviation, of 1 (default: %(default)s)")
    args = parser.parse_args(arguments)

    model = edgeae.ModelConfig.default("conv", size=args.size, widths=(48,), code=48, context=3)
    settings = edgeae.TrainConfig(
        args.data, epochs=args.epochs, corrupt=f"noise:{args.noise}", limit=args.limit, seed=args.seed, batch=8, lr=2e-3
    )
    network, trial = common.learn(model, settings, args.out, args.device)

    noisy, rows = to_uint8(trial.inputs), {"noisy": trial.inputs}
    for name, strengths in filters().items():
        tried = [to_float(np.stack([apply(image) for image in noisy])) for apply in strengths]
        rows[name] = max(tried, key=lambda result: pooled_psnr(result, trial.clean))
    rows["network"] = network.reconstruct(trial.inputs)
    print(f"of {len(noisy)} validation images:      PSNR, dB")
    for name, images in rows.items():
        print(f"{name:<18}{pooled_psnr(images, trial.clean):15.2f}")
    return common.show(args.out / "denoise.png", {**rows, "target": trial.clean})


if __name__ == "__main__":
    common.run(main)
