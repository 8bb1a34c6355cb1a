"""Downloads from a server on 127.0.0.1: checked, cached, and never half written."""

import gzip
import hashlib
import io
import struct
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from edgeae.data import downloads
from edgeae.data.datasets import open_dataset
from edgeae.data.downloads import DownloadedDataset, RemoteFile
from edgeae.errors import DataError, EdgeaeError


def idx(images: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(">IIII", 0x803, *images.shape) + images.tobytes())


class Server:
    """Serves `files`; cuts the answer short after `cut` bytes; counts requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                body = server.files.get(self.path.lstrip("/"))
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                with suppress(ConnectionError):  # a client may hang up on an answer that is too long
                    self.wfile.write((body or b"")[: server.cut])

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def remote(self, name: str, body: bytes, *other_urls: str) -> RemoteFile:
        self.files[name] = body
        url = f"http://127.0.0.1:{self.http.server_port}/{name}"
        return RemoteFile((*other_urls, url), len(body), hashlib.sha256(body).hexdigest())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("EDGEAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEAE_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()
    server.thread.join()


def cached_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_dataset_is_downloaded_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    train, val = rng.integers(0, 256, (6, 28, 28), np.uint8), rng.integers(0, 256, (3, 28, 28), np.uint8)
    dataset_files = DownloadedDataset("", server.remote("train.gz", idx(train)), server.remote("val.gz", idx(val)))
    monkeypatch.setitem(downloads.DATASETS, "mnist", dataset_files)
    for _ in range(2):
        dataset = open_dataset("mnist", size=28, channels=1)
        np.testing.assert_array_equal(dataset.train.inputs[..., 0], train)
        np.testing.assert_array_equal(dataset.val.inputs[..., 0], val)
    assert server.requests == ["/train.gz", "/val.gz"]
    assert cached_files(tmp_path) == ["train.gz", "val.gz"]
    monkeypatch.setenv("EDGEAE_OFFLINE", "1")
    assert len(open_dataset("mnist", size=28).train) == 6  # cached files need no network


def test_cifar10_records_become_nhwc(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 32, 32, 3), np.uint8)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, batch in zip([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"], images, strict=True):
            record = b"".join(b"\x07" + image.transpose(2, 0, 1).tobytes() for image in batch)
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(record)
            archive.addfile(info, io.BytesIO(record))
        archive.addfile(tarfile.TarInfo("cifar-10-batches-bin/readme.html"))
    remote = server.remote("cifar.tar.gz", buffer.getvalue())
    monkeypatch.setitem(downloads.DATASETS, "cifar10", DownloadedDataset("", remote, remote))
    train, val = downloads.load("cifar10")
    np.testing.assert_array_equal(train, images[:5].reshape(10, 32, 32, 3))
    np.testing.assert_array_equal(val, images[5])


def test_another_archive_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = server.remote("cifar.tar.gz", gzip.compress(b"no tar at all" * 100))
    monkeypatch.setitem(downloads.DATASETS, "cifar10", DownloadedDataset("", remote, remote))
    with pytest.raises(DataError, match="not the CIFAR-10 binary archive"):
        downloads.load("cifar10")


@pytest.mark.parametrize("damage", ["cut", "changed", "longer", "missing"])
def test_a_bad_download_leaves_nothing(server: Server, tmp_path: Path, damage: str) -> None:
    body = bytes(range(256)) * 40
    remote = server.remote("a.gz", body)
    match damage:
        case "cut":
            server.cut = 5000
        case "changed":
            server.files["a.gz"] = body[:-1] + b"!"
        case "longer":
            server.files["a.gz"] = body * 1000
        case "missing":
            del server.files["a.gz"]
    with pytest.raises(DataError, match="mnist cannot be downloaded") as caught:
        downloads.fetch("mnist", remote)
    assert "\n" not in str(caught.value)
    assert cached_files(tmp_path) == []


def test_the_next_mirror_is_tried(server: Server) -> None:
    dead = f"http://127.0.0.1:{server.http.server_port}/gone/a.gz"
    path = downloads.fetch("mnist", server.remote("a.gz", b"content", dead))
    assert path.read_bytes() == b"content"
    assert server.requests == ["/gone/a.gz", "/a.gz"]


def test_a_damaged_cached_file_is_downloaded_again(server: Server) -> None:
    remote = server.remote("a.gz", b"content")
    path = downloads.fetch("mnist", remote)
    path.write_bytes(b"c0ntent")
    assert downloads.fetch("mnist", remote).read_bytes() == b"content"


def test_the_offline_error_names_the_variable_and_the_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAE_OFFLINE", "1")
    with pytest.raises(DataError, match=r"EDGEAE_OFFLINE.*train-images-idx3-ubyte\.gz"):
        open_dataset("fashion-mnist", size=28)
    assert server.requests == []


def test_a_file_url_works_too(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"content")
    remote = RemoteFile(((tmp_path / "a.gz").as_uri(),), 7, hashlib.sha256(b"content").hexdigest())
    assert downloads.fetch("mnist", remote).read_bytes() == b"content"


def test_an_unusable_cache_is_one_sentence(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEAE_CACHE", str(tmp_path / "file"))
    with pytest.raises(EdgeaeError, match="file"):
        downloads.fetch("mnist", server.remote("a.gz", b"content"))


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEAE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert downloads.cache_folder() == tmp_path / ".cache" / "edgeae"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert downloads.cache_folder() == tmp_path / "xdg" / "edgeae"
    monkeypatch.setenv("EDGEAE_CACHE", str(tmp_path / "own"))
    assert downloads.cache_folder() == tmp_path / "own"


def test_every_dataset_has_digests_and_file_names() -> None:
    for dataset in downloads.DATASETS.values():
        for remote in (dataset.train, dataset.val):
            assert len(remote.sha256) == 64
            assert int(remote.sha256, 16) > 0
            assert all(url.endswith(remote.filename) for url in remote.urls)
