"""CIFAR-10 and CIFAR-100 as tensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from normtables.data import DATASETS, Dataset, files
from normtables.data.files import File, Layout, Source
from normtables.data.images import Bytes, file_splits
from normtables.data.prep import Prep, Scale

Labelled = tuple[Bytes, Bytes]  # images [N, 3, 32, 32], labels [N]

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
    kept=60_000 * 3_072 * 4,
    licence="A. Krizhevsky, V. Nair, G. Hinton; no licence stated",
    archive=File(
        "cifar-10-python.tar.gz",
        170_498_071,
        "c58f30108f718f92721af3b95e74349a",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
    ),
)

CIFAR100 = (
    File("train", 155_249_918, "16019d7e3df5f24257cddd939b257f8d"),
    File("test", 31_049_707, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
)
files.SOURCES["cifar100"] = Source(
    layouts=(Layout("cifar-100-python", CIFAR100),),
    download=169_001_437,
    kept=60_000 * 3_072 * 4,
    licence="A. Krizhevsky, V. Nair, G. Hinton; no licence stated",
    archive=File(
        "cifar-100-python.tar.gz",
        169_001_437,
        "eb9058c3a382ffc7106e4002c42a8d85",
        ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
    ),
)


@DATASETS.register("cifar10", version=1)
def cifar10(
    root: Path,
    seed: int,
    *,
    valid: int = 5_000,
    scale: Scale = "unit",
    prep: Prep = "none",
    train: int | None = None,
) -> Dataset:
    """CIFAR-10, [N, 3, 32, 32]: the last `valid` training images are for validation; `seed` draws a subset only."""
    place = files.locate("cifar10", root)
    read = _arrays if place.layout.files[0].path.endswith(".npy") else _pickles
    return file_splits(place, *read(place), seed, valid, scale, prep, train)


@DATASETS.register("cifar100", version=1)
def cifar100(
    root: Path,
    seed: int,
    *,
    valid: int = 5_000,
    scale: Scale = "unit",
    prep: Prep = "none",
    train: int | None = None,
) -> Dataset:
    """CIFAR-100 with its 100 fine classes, [N, 3, 32, 32]: the last `valid` training images are for validation."""
    place = files.locate("cifar100", root)
    return file_splits(place, *_pickles(place), seed, valid, scale, prep, train)


def _pickles(place: files.Place) -> tuple[Labelled, Labelled]:
    *batches, test = (_batch(place.path(file.path)) for file in place.layout.files)
    return (np.concatenate([pixels for pixels, _ in batches]), np.concatenate([labels for _, labels in batches])), test


def _batch(path: Path) -> Labelled:
    with path.open("rb") as file:
        batch: dict[str, Any] = pickle.load(file, encoding="latin1")  # locate() has checked its md5
    labels = batch["fine_labels"] if "fine_labels" in batch else batch["labels"]
    return batch["data"].reshape(-1, 3, 32, 32), np.array(labels, np.uint8)


def _arrays(place: files.Place) -> tuple[Labelled, Labelled]:
    images, labels, test_images, test_labels = (np.load(place.path(file.path)) for file in place.layout.files)
    return (images.transpose(0, 3, 1, 2), labels), (test_images.transpose(0, 3, 1, 2), test_labels)
