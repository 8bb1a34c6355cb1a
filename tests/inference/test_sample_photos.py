"""The sample pictures: which, how large, and without a network."""

import socket
import sys

import numpy as np
import pytest
from PIL import Image

from edgeae.data import generated_faces as faces
from edgeae.inference import sample_photos as samples


def _no_network(*arguments: object, **settings: object) -> None:
    raise AssertionError("a sample picture is fetched from the network")


@pytest.fixture
def no_skimage(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if scikit-image was not installed."""
    for name in ("skimage", "skimage.data"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 64, 100])
def test_photographs(size: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    found = samples.samples(size, channels)
    assert [sample.name for sample in found] == ["astronaut", "chelsea", "coffee", "rocket", "camera"]
    for sample in found:
        assert sample.image.shape == (size, size, channels) and sample.image.dtype == np.uint8
        assert np.ptp(sample.image) > 100  # a picture


def test_they_are_squares_cut_from_the_photographs() -> None:
    data = pytest.importorskip("skimage.data")
    for sample in samples.samples(52):
        top, left, side = samples._PHOTOS[sample.name]
        photo = getattr(data, sample.name)()
        cut = Image.fromarray(photo[top : top + side, left : left + side]).convert("RGB")
        assert cut.size == (side, side)  # the square lies inside
        assert np.array_equal(sample.image, np.asarray(cut.resize((52, 52), Image.Resampling.LANCZOS)))


def test_grey_is_the_luma_of_colour() -> None:
    for colour, grey in zip(samples.samples(32), samples.samples(32, 1), strict=True):
        luma = colour.image @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
        assert np.abs(grey.image[..., 0] - luma).max() <= 1


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (64, 1), (1200, 3)])
def test_faces_where_there_are_no_photographs(
    size: int, channels: int, no_skimage: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = faces.generate
    monkeypatch.setattr(faces, "generate", lambda count, side, seed: generate(1, side, seed))  # one is enough to see
    (sample,) = samples.samples(size, channels)
    assert sample.name == "face-0" and sample.image.shape == (size, size, channels)
    assert np.ptp(sample.image) > 100


def test_every_face_is_another(no_skimage: None) -> None:
    found = samples.samples(64)
    assert [sample.name for sample in found] == [f"face-{i}" for i in range(5)]
    assert len({sample.image.tobytes() for sample in found}) == 5
    assert np.array_equal(found[1].image, faces.generate(2, 64, seed=2)[0][1])
