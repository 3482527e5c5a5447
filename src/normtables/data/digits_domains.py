"""Pairs among MNIST, USPS, SVHN and MNIST-M: the digits 0 to 9 in four domains; docs/domains.md."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from normtables.data import DATASETS, Domains, files, mnist_m, splits, svhn, usps
from normtables.data.domains import Labelled, different, pair
from normtables.data.files import Source
from normtables.data.images import enlarged, idx_pairs
from normtables.data.prep import Images, Scale
from normtables.errors import UserError

Domain = Literal["mnist", "usps", "svhn", "mnist_m"]
GREY = np.array((0.299, 0.587, 0.114), np.float32)[:, None, None]  # shares of red, green and blue (ITU-R 601)
SIZES = (16, 28, 32)  # pixels a side

files.SOURCES["digits_domains"] = Source(
    layouts=(), download=0, licence="those of its domains", by="source target", of=("mnist", "mnist_m", "svhn", "usps")
)


@DATASETS.register("digits_domains", version=1)
def digits_domains(
    root: Path,
    seed: int,
    *,
    source: Domain = "mnist",
    target: Domain = "usps",
    size: int = 28,
    channels: int | None = None,
    valid: float = 0.1,
    train: int | None = None,
    unlabelled: int | None = None,
    scale: Scale = "unit",
) -> Domains:
    """Two of four sets of digits at one size, [N, channels, size, size].

    The official training parts are source and target, the target's official test part is for testing. `seed` draws
    validation, `train` examples of the source before that, classes equal, and `unlabelled` examples of the target.
    channels: 1 (colours become grey) or 3 (grey three times); null: 3 where one of the two has colours.
    """
    different(source, target)
    if size not in SIZES or channels not in (1, 3, None):
        raise UserError(f"dataset.size={size}: one of {SIZES}; dataset.channels={channels}: 1, 3 or null")
    rng = splits.generator(seed)
    (images, labels), _ = READERS[source](root)
    (others, targets), (tests, answers) = READERS[target](root)
    if train is not None:
        rows = splits.balanced(labels, train, rng)
        images, labels = images[rows], labels[rows]
    if unlabelled is not None:
        rows = splits.drawn(len(targets), unlabelled, "unlabelled", rng)[1]
        others, targets = others[rows], targets[rows]
    channels = channels or max(images.shape[1], others.shape[1])
    fitted = [at(part, size, channels) for part in (images, others, tests)]
    return pair((fitted[0], labels), (fitted[1], targets), (fitted[2], answers), valid, rng, scale)


def at(images: Images, size: int, channels: int) -> Images:
    """Images 0..1 at a size (bilinear) and with 1 or 3 channels; those that are so already stay as they are."""
    if images.shape[1:] == (channels, size, size):
        return images
    units = images.astype(np.float32) / np.float32(255 if images.dtype == np.uint8 else 1)
    if units.shape[1] > channels:
        units = (units * GREY).sum(1, keepdims=True)
    return enlarged(units, size).repeat(channels // units.shape[1], 1)


def _mnist(root: Path) -> tuple[Labelled, Labelled]:
    return idx_pairs(files.locate("mnist", root))


def _usps(root: Path) -> tuple[Labelled, Labelled]:
    return usps.pairs(files.locate("usps", root))


def _svhn(root: Path) -> tuple[Labelled, Labelled]:
    names = ("train_32x32.mat", "test_32x32.mat")  # its extra images, 1.3 GB, are in no protocol
    place = files.locate("svhn", root, only=names)
    train, test = (svhn.cropped(place.path(name)) for name in names)
    return train, test


def _mnist_m(root: Path) -> tuple[Labelled, Labelled]:
    return mnist_m.pairs(files.locate("mnist_m", root))


READERS = {"mnist": _mnist, "usps": _usps, "svhn": _svhn, "mnist_m": _mnist_m}
