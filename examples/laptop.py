"""Restore a photo with a shipped model, and morph it into another one: the API on one page.

python examples/laptop.py photo.jpg other.jpg out/
"""

import sys
from pathlib import Path

import edgeae


def main(photo: str, other: str, out: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)

    restorer = edgeae.load("photos-residual")  # on the best device; device="CPU" names one
    restorer.reconstruct(photo).save(folder / "restored.png")  # a path in, a PIL image out

    vae = edgeae.load("faces-vae")
    print("code of", photo, vae.encode(photo)[:4].round(2), "…")
    frames = vae.interpolate(photo, other, steps=12)
    frames[0].save(folder / "morph.gif", save_all=True, append_images=frames[1:], duration=80, loop=0)


if __name__ == "__main__":
    main(*sys.argv[1:4])
