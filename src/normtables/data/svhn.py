"""Street View House Numbers, cropped digits, as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from normtables.data import DATASETS, Dataset, files, splits
from normtables.data.files import File, Layout, Source
from normtables.data.images import Bytes
from normtables.data.prep import Prep, Scale, dataset
from normtables.errors import UserError

SVHN = tuple(
    File(name, size, md5, (f"http://ufldl.stanford.edu/housenumbers/{name}",))
    for name, size, md5 in (
        ("train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
        ("extra_32x32.mat", 1_329_278_602, "a93ce644f1a588dc4d68dda5feec44a7"),
        ("test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
    )
)
files.SOURCES["svhn"] = Source(
    layouts=(Layout("svhn", SVHN), Layout("SVHN", SVHN)),
    download=sum(file.bytes for file in SVHN),
    kept=630_420 * 3_072 * 4,
    licence="Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu, A. Ng; non-commercial use only",
)


@DATASETS.register("svhn", version=1)
def svhn(
    root: Path,
    seed: int,
    *,
    valid: int = 6_000,
    scale: Scale = "unit",
    prep: Prep = "none",
    train: int | None = None,
) -> Dataset:
    """SVHN's training and extra images, [N, 3, 32, 32]; validation as in the sources, drawn by `seed`.

    The sources take 400 of each class from the training and 200 from the extra file: two thirds and one third.
    """
    place = files.locate("svhn", root)
    found = [cropped(place.path(name)) for name in ("train_32x32.mat", "extra_32x32.mat")]
    labels = np.concatenate([part for _, part in found])
    rng = splits.generator(seed)
    held = held_out([part for _, part in found], valid, rng)
    kept = np.setdiff1d(np.arange(len(labels)), held)
    if train is not None:
        kept = kept[splits.balanced(labels[kept], train, rng)]
    images = np.concatenate([part for part, _ in found])
    del found  # 2 GB
    parts = [(images[kept], labels[kept]), (images[held], labels[held]), cropped(place.path("test_32x32.mat"))]
    return dataset(parts, 10, scale, prep, (place, [valid, train, seed]))


def held_out(labels: list[Bytes], valid: int, rng: np.random.RandomState) -> splits.Indices:
    """Indices into both files together: `valid` images, classes equal, two thirds from the first file."""
    shares = [valid * 2 // 30, valid // 10 - valid * 2 // 30]
    smallest = [int(np.bincount(part, minlength=10).min()) for part in labels]
    if valid % 10 or valid < 10 or any(share >= least for share, least in zip(shares, smallest)):
        most = 10 * min((smallest[0] - 1) * 3 // 2, (smallest[1] - 1) * 3)
        raise UserError(f"dataset.valid={valid}: a multiple of 10, as many of each class, from 10 to {most}")
    drawn = [splits.per_class(part, np.full(10, share), rng) for part, share in zip(labels, shares)]
    return np.concatenate([drawn[0], drawn[1] + len(labels[0])])


def cropped(path: Path) -> tuple[Bytes, Bytes]:
    """The images [N, 3, 32, 32] and digits of a .mat file, which writes 10 for the digit 0."""
    from scipy.io import loadmat  # here, so that listing data sets stays quick

    found = loadmat(path, variable_names=["X", "y"])
    return found["X"].transpose(3, 2, 0, 1), (found["y"].ravel() % 10).astype(np.uint8)
