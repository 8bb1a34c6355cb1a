"""Pillow's warnings while files are decoded."""

import threading
import warnings

import pytest
from helpers import photo
from PIL import Image

from edgeae.images.files.array_io import encode_image, read_image


def test_threads_leave_the_warning_filters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800)
    data, before, failures = encode_image(photo(), "png"), list(warnings.filters), []

    def read_many() -> None:
        try:
            for _ in range(50):
                read_image(data)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read_many) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == before
