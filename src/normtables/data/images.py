"""Small grey images as tensors: digits (scikit-learn's), MNIST; splits of images from files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Dataset, files, splits
from normtables.data.files import File, Layout, Source
from normtables.data.prep import Floats, Images, Prep, Scale, dataset
from normtables.errors import UserError

Bytes = NDArray[np.uint8]
SIZES = (8, 16, 32)  # pixels a side that embedded digits come in

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


@DATASETS.register("digits", version=1)
def digits(
    root: Path,
    seed: int,
    *,
    size: int = 8,
    valid: int = 300,
    test: int = 300,
    scale: Scale = "unit",
    prep: Prep = "none",
    train: int | None = None,
) -> Dataset:
    """Scikit-learn's 1,797 handwritten digits, [N, 1, size, size]; stratified splits drawn by the data seed."""
    check_side(size)
    return dataset(drawn_splits(*handwritten(size), seed, valid, test, train), 10, scale, prep)


@DATASETS.register("mnist", version=1)
def mnist(
    root: Path,
    seed: int,
    *,
    valid: int = 10_000,
    scale: Scale = "unit",
    prep: Prep = "none",
    train: int | None = None,
) -> Dataset:
    """MNIST, [N, 1, 28, 28]: the last `valid` training images are for validation; `seed` draws a subset only."""
    place = files.locate("mnist", root)
    return file_splits(place, *idx_pairs(place), seed, valid, scale, prep, train)


def idx_pairs(place: files.Place) -> tuple[tuple[Bytes, Bytes], tuple[Bytes, Bytes]]:
    """MNIST's (images [N, 1, 28, 28], digits) for training and for testing."""
    images, labels, test_images, test_labels = (idx(place.path(file.path)) for file in place.layout.files)
    return (images[:, None], labels), (test_images[:, None], test_labels)


def check_side(size: int) -> None:
    """Raise UserError for a size that embedded digits do not come in."""
    if size not in SIZES:
        raise UserError(f"dataset.size={size}: choose one of {', '.join(map(str, SIZES))}")


def handwritten(size: int) -> tuple[Floats, NDArray[np.int64]]:
    """Scikit-learn's digits [N, 1, size, size], 0..1, and their classes."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    return enlarged((raw.images[:, None] / 16).astype(np.float32), size), raw.target  # 17 grey levels


def enlarged(images: Floats, size: int) -> Floats:
    """Images [N, C, H, W] at another size, by bilinear interpolation between pixel centres."""
    import torch  # here, so that listing data sets stays free of torch
    from torch.nn import functional

    if size == images.shape[-1]:
        return images
    return functional.interpolate(torch.from_numpy(images), (size, size), mode="bilinear").numpy()


def drawn_splits(
    images: Images, labels: NDArray[Any], seed: int, valid: int, test: int, train: int | None
) -> list[tuple[Images, NDArray[Any]]]:
    """Training, validation and test (images, labels), stratified and drawn by `seed`."""
    rng = splits.generator(seed)
    rest, tested = splits.stratified(labels, test, "test", rng)
    kept, held = splits.stratified(labels[rest], valid, "valid", rng)
    if train is not None:
        kept = kept[splits.balanced(labels[rest[kept]], train, rng)]
    return [(images[rows], labels[rows]) for rows in (rest[kept], rest[held], tested)]


def file_splits(
    place: files.Place,
    images: tuple[Images, Bytes],
    test: tuple[Images, Bytes],
    seed: int,
    valid: int,
    scale: Scale,
    prep: Prep,
    train: int | None,
) -> Dataset:
    """Splits of (images [N, C, H, W], labels) with a test file of their own: the last `valid` are held out."""
    pixels, labels = images
    kept, held = splits.last(len(labels), valid)
    if train is not None:
        kept = kept[splits.balanced(labels[kept], train, splits.generator(seed))]
    parts = [(pixels[kept], labels[kept]), (pixels[held], labels[held]), test]
    return dataset(parts, int(labels.max()) + 1, scale, prep, (place, [valid, train, seed]))


def idx(path: Path) -> Bytes:
    """The uint8 array in a gzipped idx file: 0, 0, 8, number of axes, their lengths as big-endian 32-bit, the bytes."""
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
