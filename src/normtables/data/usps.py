"""USPS: handwritten digits of American post codes (LeCun et al. 1989, Hull 1994), 16 px, as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from normtables.data import DATASETS, Dataset, files
from normtables.data.files import File, Layout, Source
from normtables.data.images import Bytes, file_splits
from normtables.data.prep import Floats, Prep, Scale
from normtables.errors import UserError

SIDE = 16
LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass"
TEXTS = tuple(  # LIBSVM's text files: digit + 1, then position:value with values -1..1
    File(name, size, md5, (f"{LIBSVM}/{name}",), about=True)
    for name, size, md5 in (
        ("usps.bz2", 6_579_383, "ec16c51db3855ca6c91edd34d0e9b197"),
        ("usps.t.bz2", 1_831_726, "8ea070ee2aca1ac39742fdd1ef5ed118"),
    )
)
HDF5 = (File("usps.h5", 2_913_522, "355df6b942eb766252e0340bc019b0b9"),)  # the same, 0..1; widely copied
files.SOURCES["usps"] = Source(
    layouts=(Layout("usps", TEXTS), Layout("USPS", TEXTS), Layout("usps", HDF5)),
    download=sum(file.bytes for file in TEXTS),
    licence="United States Postal Service; J. Hull; no licence stated",
)


@DATASETS.register("usps", version=1)
def usps(
    root: Path, seed: int, *, valid: int = 1_000, scale: Scale = "unit", prep: Prep = "none", train: int | None = None
) -> Dataset:
    """USPS, [N, 1, 16, 16]: the last `valid` of 7,291 training images are for validation, 2,007 are for testing.

    `seed` draws a subset only.
    """
    place = files.locate("usps", root)
    return file_splits(place, *pairs(place), seed, valid, scale, prep, train)


def pairs(place: files.Place) -> tuple[tuple[Floats, Bytes], tuple[Floats, Bytes]]:
    """(images [N, 1, 16, 16], 0..1, and digits) for training and for testing."""
    paths = [place.path(file.path) for file in place.layout.files]
    if len(paths) == 2:
        return _text(paths[0]), _text(paths[1])
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{paths[0]} needs h5py: `pip install h5py`, or run `normtables data fetch usps` for other files of the set"
        ) from error
    with h5py.File(paths[0]) as file:
        train, test = ((file[part]["data"][:], file[part]["target"][:]) for part in ("train", "test"))
    return (_squares(train[0]), train[1].astype(np.uint8)), (_squares(test[0]), test[1].astype(np.uint8))


def _text(path: Path) -> tuple[Floats, Bytes]:
    from sklearn.datasets import load_svmlight_file  # here, so that listing data sets stays quick

    values, labels = load_svmlight_file(str(path), n_features=SIDE * SIDE, dtype=np.float32)
    return _squares((values.toarray() + 1) / 2), (labels - 1).astype(np.uint8)


def _squares(values: Floats) -> Floats:
    return values.astype(np.float32).reshape(-1, 1, SIDE, SIDE)
