"""Small files of the true formats, declared in place of the real ones."""

import gzip
import hashlib
import pickle
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from scipy.io import savemat

from normtables import data
from normtables.data import files
from normtables.data.files import File, Layout, Source


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    """No memory of other tests, and a user's cache of this test's own."""
    list(data.DATASETS)  # the modules have filled SOURCES
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(files, "_whole", set())
    monkeypatch.setattr(data, "_kept", type(data._kept)())


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def declare(monkeypatch, root):
    """Declare the files in these layouts' folders, as they are now, to be what the data set needs."""

    def make(name, *folders, urls=(), archive=None):
        names = {layout.folder: [file.path for file in layout.files] for layout in files.SOURCES[name].layouts}
        layouts = [Layout(f, tuple(described(root / f / path, urls) for path in names[f])) for f in folders]
        monkeypatch.setitem(files.SOURCES, name, Source(tuple(layouts), 123, "no licence", archive))

    return make


def described(path, urls=()):
    """The manifest entry of a file, computed here without the code under test."""
    content = np.load(path).tobytes() if path.suffix == ".npy" else path.read_bytes()
    kind = hashlib.sha256 if path.suffix == ".npy" else hashlib.md5
    return File(path.name, len(content), kind(content).hexdigest(), tuple(f"{u}/{path.name}" for u in urls))


@pytest.fixture
def describe():
    """`described`, for tests of data sets with several layouts."""
    return described


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def mnist_arrays():
    """60 + 20 random images; training labels 0..9 in turn."""
    rng = np.random.default_rng(0)
    images, tests = (rng.integers(0, 256, (n, 28, 28), np.uint8) for n in (60, 20))
    return images, np.arange(60, dtype=np.uint8) % 10, tests, np.arange(20, dtype=np.uint8) % 10


@pytest.fixture
def mnist_files(root, mnist_arrays):
    def write(folder):
        names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
        for name, array in zip(names, mnist_arrays):
            write_idx(root / folder / f"{name}-ubyte.gz", array)

    return write


@pytest.fixture
def cifar_arrays():
    """50 + 10 random colour images [N, 32, 32, 3]."""
    rng = np.random.default_rng(1)
    images, tests = (rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for n in (50, 10))
    return images, np.arange(50, dtype=np.uint8) % 10, tests, np.arange(10, dtype=np.uint8)


@pytest.fixture
def cifar_pickles(root, cifar_arrays):
    images, labels, tests, test_labels = cifar_arrays
    batches = {f"data_batch_{i + 1}": (images[10 * i : 10 * i + 10], labels[10 * i : 10 * i + 10]) for i in range(5)}
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name, (pixels, targets) in (batches | {"test_batch": (tests, test_labels)}).items():
        batch = {"data": pixels.transpose(0, 3, 1, 2).reshape(10, 3072), "labels": targets.tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


@pytest.fixture
def cifar_npy(root, cifar_arrays):
    (root / "cifar10").mkdir()
    for name, array in zip(("train_images", "train_labels", "test_images", "test_labels"), cifar_arrays):
        np.save(root / "cifar10" / f"{name}.npy", array)


@pytest.fixture
def cifar100_files(root, cifar_arrays):
    """CIFAR-100's two pickles; fine labels 99, 98, ..., coarse ones a fifth of them."""
    images, _, tests, _ = cifar_arrays
    (root / "cifar-100-python").mkdir()
    for name, pixels in (("train", images), ("test", tests)):
        fine = [99 - i for i in range(len(pixels))]
        batch = {"filenames": [f"{i}.png" for i in fine], "batch_label": "1 of 1", "fine_labels": fine}
        batch |= {"coarse_labels": [i // 5 for i in fine], "data": pixels.transpose(0, 3, 1, 2).reshape(-1, 3072)}
        (root / "cifar-100-python" / name).write_bytes(pickle.dumps(batch, protocol=2))


@pytest.fixture
def svhn_arrays():
    """(images [N, 32, 32, 3], digits) of the files train, extra and test: 100, 50 and 20 images."""
    rng = np.random.default_rng(2)
    found = {}
    for name, count in (("train", 100), ("extra", 50), ("test", 20)):
        found[name] = rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.permutation(np.arange(count) % 10)
    return found


@pytest.fixture
def svhn_files(root, svhn_arrays):
    """SVHN's .mat files: images [32, 32, 3, N], labels [N, 1] with 10 for the digit 0."""
    (root / "svhn").mkdir()
    for name, (images, digits) in svhn_arrays.items():
        labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
        savemat(root / "svhn" / f"{name}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels})


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder and the URL under which this machine serves it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    (tmp_path / "server").mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "server")) as serving:
        Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield tmp_path / "server", f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
