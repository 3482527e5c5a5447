"""MNIST-M (Ganin & Lempitsky 2015): MNIST's digits blended with colour photographs, as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from normtables.data import DATASETS, Dataset, derived, files
from normtables.data.files import File, Layout, Source
from normtables.data.folders import Folder
from normtables.data.images import Bytes, file_splits
from normtables.data.prep import Prep, Scale
from normtables.errors import UserError

COUNTS = {"train": 59_001, "test": 9_001}
READER = 1  # part of the kept files' names; raise it when `decoded` changes what they store

PICTURES = tuple(
    group
    for part, count in COUNTS.items()
    for group in (Folder(f"mnist_m_{part}/*.png", count), Folder(f"mnist_m_{part}_labels.txt", 1))
)
files.SOURCES["mnist_m"] = Source(
    layouts=(Layout("mnist_m", groups=PICTURES),),
    download=175_000_000,  # about
    kept=sum(COUNTS.values()) * 3 * 32**2,
    licence="Y. Ganin; digits of MNIST (CC BY-SA 3.0), backgrounds of BSDS500; no licence stated",
    archive=File(
        "mnist_m.tar.gz",
        175_000_000,
        "859df31c91afe82e80e5012ba928f279",
        (
            "https://cornell.box.com/shared/static/jado7quprg6hzzdubvwzh9umr75damwi",
            "https://drive.google.com/file/d/0B_tExHiYS-0veklUZHFYT19KYjg/view",
        ),
    ),
)


@DATASETS.register("mnist_m", version=1)
def mnist_m(
    root: Path, seed: int, *, valid: int = 9_000, scale: Scale = "unit", prep: Prep = "none", train: int | None = None
) -> Dataset:
    """MNIST-M, [N, 3, side, side]: the last `valid` of 59,001 training images are for validation.

    `seed` draws a subset only. The side is that of the files, 28 or 32 px.
    """
    place = files.locate("mnist_m", root)
    return file_splits(place, *pairs(place), seed, valid, scale, prep, train)


def pairs(place: files.Place) -> tuple[tuple[Bytes, Bytes], tuple[Bytes, Bytes]]:
    """(images [N, 3, side, side] and digits) for training and for testing."""
    train, test = (labelled(place, part) for part in COUNTS)
    return train, test


def labelled(place: files.Place, part: str) -> tuple[Bytes, Bytes]:
    """Images and digits of the training or the test part, in the order of its list `name digit`.

    The images are kept beside the files. Raises UserError for a list that does not name the files that are there.
    """
    path = place.path(f"mnist_m_{part}_labels.txt")
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    names, digits = [row[0] for row in rows], np.array([row[-1] for row in rows])
    if len(set(names)) != COUNTS[part] or not set(digits.tolist()) <= set("0123456789"):
        raise UserError(
            f"data set 'mnist_m': {path} is damaged: it should name {COUNTS[part]:,} files and their digits"
        )
    paths = [place.path(f"mnist_m_{part}") / name for name in names]
    stamp = sum(path.stat().st_size for path in paths)
    images = derived.array(place.root, f"mnist_m-{part}-{stamp}-{READER}.npy", lambda: decoded(paths))
    return images, digits.astype(np.uint8)


def decoded(paths: list[Path]) -> Bytes:
    """The pictures as bytes [N, 3, side, side]; raises UserError for one that is damaged or of another size."""
    from PIL import Image

    pictures = []
    for path in paths:
        try:
            with Image.open(path) as image:
                pictures.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
        except OSError as error:
            raise UserError(f"{path} is damaged: {error}") from error
        if pictures[-1].shape != pictures[0].shape:
            raise UserError(f"{path} is damaged: it is not of the size of {paths[0].name}")
    return np.stack(pictures)
