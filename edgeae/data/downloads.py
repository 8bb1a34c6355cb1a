"""Built-in datasets that are downloaded once and kept in a cache folder.

A file is used only if its SHA-256 is the one written here, and it is written whole or not at all. It lies in the
cache folder of cache_folder.py. `EDGEAE_OFFLINE=1` forbids downloads.
"""

import hashlib
import http.client
import os
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeae.cache_folder import cache_folder
from edgeae.data.array_files import read_idx
from edgeae.errors import DataError
from edgeae.files import atomic_write

_TIMEOUT_S = 30
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        urls: addresses that serve it, tried in this order.
        size_bytes: its exact size.
        sha256: its digest, in hexadecimal.
    """

    urls: tuple[str, ...]
    size_bytes: int
    sha256: str

    @property
    def filename(self) -> str:
        return self.urls[0].rpartition("/")[2]


@dataclass(frozen=True)
class DownloadedDataset:
    """A dataset of two files, or of one archive as both.

    Attributes:
        homepage: the authors' page.
        train, val: the files of the training and validation images.
    """

    homepage: str
    train: RemoteFile
    val: RemoteFile


def _fashion(filename: str, size_bytes: int, sha256: str) -> RemoteFile:
    hosts = (
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    )
    return RemoteFile(tuple(host + filename for host in hosts), size_bytes, sha256)


def _mnist(filename: str, size_bytes: int, sha256: str) -> RemoteFile:
    # yann.lecun.com, the official source, no longer serves the files; these mirrors hold the same bytes.
    hosts = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    return RemoteFile(tuple(host + filename for host in hosts), size_bytes, sha256)


_CIFAR10 = RemoteFile(
    # The binary version: fixed-length records, where the Python version is a pickle.
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)

DATASETS: dict[str, DownloadedDataset] = {
    "fashion-mnist": DownloadedDataset(
        "https://github.com/zalandoresearch/fashion-mnist",
        _fashion(
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        _fashion(
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
    ),
    "mnist": DownloadedDataset(
        "http://yann.lecun.com/exdb/mnist/",
        _mnist(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _mnist(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
    ),
    "cifar10": DownloadedDataset("https://www.cs.toronto.edu/~kriz/cifar.html", _CIFAR10, _CIFAR10),
}


def _is_whole(path: Path, remote: RemoteFile) -> bool:
    try:
        if path.stat().st_size != remote.size_bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256
    except FileNotFoundError:
        return False


def _receive(url: str, remote: RemoteFile) -> Iterator[bytes]:
    """Yield the blocks of a file. Raises DataError if the address does not answer or sends another file."""
    digest = hashlib.sha256()
    received_bytes = 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            # One byte past the size shows that it is another file; an endless answer ends there.
            while block := response.read(min(_BLOCK_BYTES, remote.size_bytes + 1 - received_bytes)):
                received_bytes += len(block)
                digest.update(block)
                yield block
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{url}: {error}") from error
    if received_bytes != remote.size_bytes or digest.hexdigest() != remote.sha256:
        raise DataError(f"{url}: it sent another file than the published one")


def fetch(name: str, remote: RemoteFile) -> Path:
    """Return the local copy of a file, downloading it if it is missing or damaged.

    Args:
        name: of the dataset, which is also the sub-folder of the cache.
        remote: the file.

    Raises:
        DataError: the file is missing and cannot be downloaded, or `EDGEAE_OFFLINE` forbids that.
        EdgeaeError: the cache cannot be written.
        UsageError: there is no cache folder, or its path is relative.
    """
    path = cache_folder() / name / remote.filename
    try:
        if _is_whole(path, remote):
            return path
        if os.environ.get("EDGEAE_OFFLINE", "0") not in ("", "0"):
            raise DataError(
                f"{name} is not in the cache and EDGEAE_OFFLINE forbids a download: "
                f"unset it, or put {remote.urls[0]} at {path}."
            )
    except OSError as error:
        raise DataError(f"the cached file {path} cannot be read ({error}): set EDGEAE_CACHE elsewhere.") from error
    failures = []
    for url in remote.urls:
        try:
            with atomic_write(path) as file:
                for block in _receive(url, remote):
                    file.write(block)
            return path
        except DataError as error:
            failures.append(str(error))
    raise DataError(f"{name} cannot be downloaded ({'; '.join(failures)}): try again later, or put the file at {path}.")


def load(name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Load a dataset, downloading it if needed.

    Args:
        name: a key of DATASETS.

    Returns:
        Training and validation images, uint8 (N, H, W) or (N, H, W, 3). The validation images are the authors' test
        set.

    Raises:
        DataError: it cannot be downloaded or read.
    """
    dataset = DATASETS[name]
    if dataset.train is dataset.val:
        return _read_cifar10(fetch(name, dataset.train))
    return np.asarray(read_idx(fetch(name, dataset.train))), np.asarray(read_idx(fetch(name, dataset.val)))


def _read_cifar10(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Records of one label byte and 32×32 pixels, channel by channel (https://www.cs.toronto.edu/~kriz/cifar.html)."""
    train_names = [f"data_batch_{i}" for i in range(1, 6)]
    parts: dict[str, NDArray[np.uint8]] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = Path(member.name).stem
                stream = archive.extractfile(member) if name in (*train_names, "test_batch") else None
                if stream is not None:
                    records = np.frombuffer(stream.read(), dtype=np.uint8).reshape(-1, 1 + 3 * 32 * 32)
                    parts[name] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return np.concatenate([parts[name] for name in train_names]), parts["test_batch"]
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError) as error:
        raise DataError(f"{path} is not the CIFAR-10 binary archive ({error}): delete it and try again.") from error
