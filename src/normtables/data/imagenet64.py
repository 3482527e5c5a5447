"""ImageNet downsampled to 64 px (Chrabaszcz, Loshchilov, Hutter, arXiv 1707.08819), as bytes on the run's device."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Dataset, derived, files
from normtables.data.files import File, Layout, Source
from normtables.data.imagenet import dataset, rows
from normtables.data.pixels import Bytes
from normtables.data.prep import Scale
from normtables.errors import UserError

SIDE = 64
READER = 1  # part of the kept files' names; raise it when `joined` changes what they store
URL = "https://image-net.org/data/downsample"
ZIPS = (
    File(
        "Imagenet64_train_part1_npz.zip",
        6_783_426_789,
        "9422dc1dc5d092e9814a70a1cb7fc74880d2db5d88a0cb8a34ee363b12bde3f1",
        (f"{URL}/Imagenet64_train_part1_npz.zip",),
    ),
    File(
        "Imagenet64_train_part2_npz.zip",
        6_780_506_068,
        "9fafc115afb7e6c301e66dc16b2d737152b427bd5dab26e1293487a6819c7f30",
        (f"{URL}/Imagenet64_train_part2_npz.zip",),
    ),
    File(
        "Imagenet64_val_npz.zip",
        529_522_927,
        "e1e75133158a1924135a9c6f97a80d2d237b158945e0b34074e58e6c8430eeb8",
        (f"{URL}/Imagenet64_val_npz.zip",),
    ),
)
files.SOURCES["imagenet64"] = Source(
    layouts=(Layout("imagenet64", ZIPS),),
    download=sum(file.bytes for file in ZIPS),
    kept=1_331_167 * 3 * 64**2,
    licence="image-net.org: non-commercial research and education only",
)


@DATASETS.register("imagenet64", version=1)
def imagenet64(
    root: Path, seed: int, *, valid: int = 10_000, scale: Scale = "standard", train: int | None = None
) -> Dataset:
    """ImageNet at 64 px, [N, 3, 64, 64]: validation is drawn from the training images, test images are the 50,000."""
    import torch  # here, so that listing data sets stays free of torch

    place = files.locate("imagenet64", root)
    *parts, last = place.layout.files
    images, labels = joined(place, parts)
    tests, test_labels = joined(place, [last])
    kept, held = rows(labels, valid, train, seed)
    stored, chosen = (images, kept) if train is None else (images[kept], np.arange(len(kept)))
    return dataset(
        [
            (torch.from_numpy(stored), chosen, labels[kept]),
            (torch.from_numpy(images[held]), np.arange(len(held)), labels[held]),
            (torch.from_numpy(tests), np.arange(len(tests)), test_labels),
        ],
        int(labels.max()) + 1,
        scale,
        SIDE,
    )


def joined(place: files.Place, parts: list[File]) -> tuple[Bytes, NDArray[np.int64]]:
    """All images [N, 3, 64, 64] and labels in these archives, kept beside them and mapped from there."""
    zips = [place.path(file.path) for file in parts]
    name = "-".join(["imagenet64", *(file.digest[:12] for file in parts), str(READER)])
    labels = derived.array(
        place.root, f"{name}-labels.npy", lambda: np.concatenate([found["labels"] - 1 for found in batches(zips)])
    )

    def write(path: Path) -> None:
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (len(labels), 3, SIDE, SIDE))
        start = 0
        for found in batches(zips):
            images[start : start + len(found["data"])] = found["data"].reshape(-1, 3, SIDE, SIDE)
            start += len(found["data"])
        images.flush()

    if derived.mapped(place.root, f"{name}.npy") is None:
        derived.store(place.root, f"{name}.npy", write)
    images = derived.mapped(place.root, f"{name}.npy")
    if images is None:
        need = 3 * SIDE * SIDE * len(labels) / 1e9
        raise UserError(f"data set 'imagenet64': {place.root / '.cache'} cannot take {need:.1f} GB of unpacked images")
    return images, labels.astype(np.int64)


def batches(zips: list[Path]) -> Iterator[dict[str, NDArray[Any]]]:
    """The arrays data [n, 12288] and labels (1 to 1000) of each .npz file in the archives, in the files' order."""
    for path in zips:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npz")]
            for name in sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)]):
                with np.load(io.BytesIO(archive.read(name))) as found:
                    yield {key: found[key] for key in ("data", "labels")}
