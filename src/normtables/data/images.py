"""Small images as tensors: digits (scikit-learn's), MNIST, CIFAR-10."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Dataset, files, splits
from normtables.data.files import File, Layout, Source

Bytes = NDArray[np.uint8]
Scale = Literal["unit", "standard"]

MNIST = tuple(
    File(
        name,
        size,
        md5,
        (f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}", f"http://yann.lecun.com/exdb/mnist/{name}"),
    )
    for name, size, md5 in (
        ("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
    )
)
files.SOURCES["mnist"] = Source(
    layouts=(Layout("MNIST/raw", MNIST), Layout("mnist", MNIST)),
    download=sum(file.bytes for file in MNIST),
    licence="Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0",
)

CIFAR10_PICKLES = tuple(
    File(name, size, md5)
    for name, size, md5 in (
        ("data_batch_1", 31_035_704, "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", 31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", 31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", 31_035_696, "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", 31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
        ("test_batch", 31_035_526, "40351d587109b95175f43aff81a1287e"),
    )
)
CIFAR10_ARRAYS = (  # uint8: images [N, 32, 32, 3], labels [N], in the order of the batches
    File("train_images.npy", 153_600_000, "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a"),
    File("train_labels.npy", 50_000, "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253"),
    File("test_images.npy", 30_720_000, "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04"),
    File("test_labels.npy", 10_000, "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"),
)
files.SOURCES["cifar10"] = Source(
    layouts=(Layout("cifar-10-batches-py", CIFAR10_PICKLES), Layout("cifar10", CIFAR10_ARRAYS)),
    download=170_498_071,
    licence="A. Krizhevsky, V. Nair, G. Hinton; no licence stated",
    archive=File(
        "cifar-10-python.tar.gz",
        170_498_071,
        "c58f30108f718f92721af3b95e74349a",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
    ),
)


@DATASETS.register("digits", version=1)
def digits(
    root: Path, seed: int, *, valid: int = 300, test: int = 300, scale: Scale = "unit", train: int | None = None
) -> Dataset:
    """Scikit-learn's 1,797 handwritten digits, [N, 1, 8, 8]; stratified splits drawn by the data seed."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    inputs = (raw.images[:, None] / 16).astype(np.float32)  # 17 grey levels
    rng = splits.generator(seed)
    rest, tested = splits.stratified(raw.target, test, "test", rng)
    kept, held = splits.stratified(raw.target[rest], valid, "valid", rng)
    if train is not None:
        kept = kept[splits.balanced(raw.target[rest[kept]], train, rng)]
    parts = [(inputs[rows], raw.target[rows]) for rows in (rest[kept], rest[held], tested)]
    return splits.dataset(standardised(parts, scale), classes=10)


@DATASETS.register("mnist", version=1)
def mnist(root: Path, seed: int, *, valid: int = 10_000, scale: Scale = "unit", train: int | None = None) -> Dataset:
    """MNIST, [N, 1, 28, 28]: the last `valid` training images are for validation; `seed` draws a subset only."""
    place = files.locate("mnist", root)
    names = [file.path for file in place.layout.files]
    images, labels, test_images, test_labels = (idx(place.path(name)) for name in names)
    return image_splits(images[:, None], labels, test_images[:, None], test_labels, seed, valid, scale, train)


@DATASETS.register("cifar10", version=1)
def cifar10(root: Path, seed: int, *, valid: int = 5_000, scale: Scale = "unit", train: int | None = None) -> Dataset:
    """CIFAR-10, [N, 3, 32, 32]: the last `valid` training images are for validation; `seed` draws a subset only."""
    place = files.locate("cifar10", root)
    read = _cifar_arrays if place.layout.files[0].path.endswith(".npy") else _cifar_pickles
    return image_splits(*read(place), seed, valid, scale, train)


def image_splits(
    images: Bytes,
    labels: Bytes,
    test_images: Bytes,
    test_labels: Bytes,
    seed: int,
    valid: int,
    scale: Scale,
    train: int | None,
) -> Dataset:
    """Splits of uint8 images [N, C, H, W] with a test file of their own, 0..255 scaled to 0..1 or standardised."""
    kept, held = splits.last(len(labels), valid)
    if train is not None:
        kept = kept[splits.balanced(labels[kept], train, splits.generator(seed))]
    parts = [
        (unit(images[kept]), labels[kept]),
        (unit(images[held]), labels[held]),
        (unit(test_images), test_labels),
    ]
    return splits.dataset(standardised(parts, scale), classes=int(labels.max()) + 1)


def unit(images: Bytes) -> NDArray[np.float32]:
    """0..255 to 0..1 in float32."""
    scaled = images.astype(np.float32, order="C")
    scaled /= 255
    return scaled


def standardised(parts: list[splits.Arrays], scale: Scale) -> list[splits.Arrays]:
    """The (images, labels) pairs; "standard" gives each channel mean 0, variance 1 over the first pair, in place."""
    if scale == "standard":
        mean = parts[0][0].mean((0, 2, 3), np.float64, keepdims=True).astype(np.float32)
        deviation = parts[0][0].std((0, 2, 3), np.float64, keepdims=True).astype(np.float32)
        for images, _ in parts:
            images -= mean
            images /= deviation
    return parts


def idx(path: Path) -> Bytes:
    """The uint8 array in a gzipped idx file: 0, 0, 8, number of axes, their lengths as big-endian 32-bit, the bytes."""
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _cifar_pickles(place: files.Place) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    batches = [_batch(place.path(file.path)) for file in place.layout.files]
    images = np.concatenate([pixels for pixels, _ in batches[:-1]])
    labels = np.concatenate([targets for _, targets in batches[:-1]])
    return images, labels, *batches[-1]


def _batch(path: Path) -> tuple[Bytes, Bytes]:
    with path.open("rb") as file:
        batch: dict[str, Any] = pickle.load(file, encoding="latin1")  # locate() has checked its md5
    return batch["data"].reshape(-1, 3, 32, 32), np.array(batch["labels"], np.uint8)


def _cifar_arrays(place: files.Place) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    images, labels, test_images, test_labels = (np.load(place.path(file.path)) for file in place.layout.files)
    return images.transpose(0, 3, 1, 2), labels, test_images.transpose(0, 3, 1, 2), test_labels
