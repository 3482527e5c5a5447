"""ImageNet (ILSVRC 2012) from its JPEG files: decoded once, kept as bytes on disk, read batch by batch."""

from __future__ import annotations

import csv
import hashlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Dataset, Split, derived, files, splits
from normtables.data.files import Layout, Source
from normtables.data.pixels import Bytes, Disk, Pixels
from normtables.data.prep import Scale
from normtables.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

COUNTS = {"train": 1_281_167, "val": 50_000}  # JPEG files
LABELS, DEVKIT, META = "LOC_val_solution.csv", "ILSVRC2012_devkit_t12.tar.gz", "meta.bin"  # classes of a flat val/
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue; the values in common use
SEGMENT = 8_192  # images in one kept file, 1.6 GB at 256 px; an interrupted decoding goes on with the next one
DECODER = 1  # part of the kept files' names; raise it when `squared` changes what they store
SIZES = (32, 256)  # least and largest number of pixels a side

Labelled = tuple[list[str], NDArray[np.int64]]  # paths below the data set's folder, and their classes


@DATASETS.register("imagenet", version=1)
def imagenet(
    root: Path, seed: int, *, size: int = 224, valid: int = 10_000, scale: Scale = "standard", train: int | None = None
) -> Dataset:
    """ImageNet, [N, 3, size, size]: validation images are drawn from the training files, test images are val/.

    Of each picture the central square is kept, size * 8 / 7 pixels a side (256 for 224, bilinear). Raises UserError for
    files that are missing or cannot be read, and where there is no room to keep the pictures.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(f"dataset.size={size} should lie between {SIZES[0]} and {SIZES[1]}")
    place = files.locate("imagenet", root)
    folder, side = place.root / place.layout.folder, size * 8 // 7
    classes = sorted(entry.name for entry in os.scandir(folder / "train") if entry.is_dir())
    (names, labels), (tests, test_labels) = in_folders(folder, "train", classes), validation(folder, classes)
    kept, held = rows(labels, valid, train, seed)
    needed = np.sort(np.concatenate([kept, held]))  # a subset decodes no more than it uses
    trained = decoded(place.root, folder, [names[row] for row in needed], side)
    tested = decoded(place.root, folder, tests, side)
    parts = [(trained, np.searchsorted(needed, part), labels[part]) for part in (kept, held)]
    return dataset([*parts, (tested, np.arange(len(tests)), test_labels)], len(classes), scale, size)


def rows(labels: NDArray[Any], valid: int, train: int | None, seed: int) -> tuple[splits.Indices, splits.Indices]:
    """Training and validation rows of the training images, stratified and drawn by `seed`."""
    rng = splits.generator(seed)
    kept, held = splits.stratified(labels, valid, "valid", rng)
    return kept if train is None else kept[splits.balanced(labels[kept], train, rng)], held


def dataset(
    parts: Sequence[tuple[Tensor | Disk, NDArray[np.int64], NDArray[Any]]], classes: int, scale: Scale, size: int
) -> Dataset:
    """The (stored bytes, rows of them, labels of the rows) of training, validation and test as a data set."""
    import torch  # here, so that listing data sets stays free of torch

    mean, deviation = (MEAN, DEVIATION) if scale == "standard" else ((0.0,) * 3, (1.0,) * 3)
    channels = [torch.tensor(values)[:, None, None] for values in (mean, deviation)]
    made = []
    for stored, chosen, labels in parts:
        inputs = Pixels(stored, torch.from_numpy(chosen.astype(np.int64)), channels[0], channels[1], size)
        made.append(Split(cast("Tensor", inputs), torch.from_numpy(labels.astype(np.int64))))
    return Dataset(made[0], made[1], made[2], classes)


def decoded(root: Path, folder: Path, names: list[str], side: int) -> Disk:
    """The pictures of these files as bytes [N, 3, side, side], kept in segments beside the files."""
    parts = []
    for start in range(0, len(names), SEGMENT):
        chosen = names[start : start + SEGMENT]
        key = hashlib.sha256("\n".join([str(DECODER), *chosen]).encode()).hexdigest()[:16]
        name = f"imagenet-{side}-{key}.npy"
        if not derived.exists(root, name):
            print(f"imagenet: decoding picture {start + 1:,} of {len(names):,}, once", file=sys.stderr)
        parts.append(derived.array(root, name, partial(_segment, folder, chosen, side)))
        if not derived.exists(root, name):
            need = 3 * side * side * len(names) / 1e9
            raise UserError(f"data set 'imagenet': {root / '.cache'} cannot take the {need:.1f} GB of decoded pictures")
    return Disk(parts)


def _segment(folder: Path, names: list[str], side: int) -> Bytes:
    pictures = np.empty((len(names), 3, side, side), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, picture in enumerate(pool.map(lambda name: squared(folder / name, side), names)):
            pictures[row] = picture
    return pictures


def squared(path: Path, side: int) -> Bytes:
    """The central square of a picture, [3, side, side], resized with antialiased bilinear weights."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BILINEAR)
    except OSError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return np.asarray(square).transpose(2, 0, 1)


def in_folders(folder: Path, part: str, classes: list[str]) -> Labelled:
    """The pictures in a folder for each class."""
    found = [pictures(folder / part / name) for name in classes]
    names = [f"{part}/{wnid}/{name}" for wnid, inside in zip(classes, found) for name in inside]
    return names, np.repeat(np.arange(len(classes)), [len(inside) for inside in found])


def validation(folder: Path, classes: list[str]) -> Labelled:
    """The pictures in val/: in a folder for each class, or all together with a file of labels beside val/."""
    if flat := pictures(folder / "val"):
        number = {name: row for row, name in enumerate(classes)}
        return [f"val/{name}" for name in flat], np.array([number[wnid] for wnid in _wnids(folder, flat)])
    return in_folders(folder, "val", classes)


def _wnids(folder: Path, names: list[str]) -> list[str]:
    """The class of each validation picture, from Kaggle's list or the development kit."""
    from torchvision.datasets.imagenet import load_meta_file, parse_devkit_archive

    if (folder / LABELS).exists():
        with (folder / LABELS).open(encoding="utf-8", newline="") as file:
            found = {row[0]: row[1].split()[0] for row in csv.reader(file)}
        return [found[Path(name).stem] for name in names]
    if not (folder / META).exists():
        parse_devkit_archive(folder)
    return load_meta_file(folder)[1]  # in the order of the pictures' numbers


def pictures(folder: Path) -> list[str]:
    """The names of the JPEG files in a folder, sorted."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.name.lower().endswith((".jpeg", ".jpg")))


class Pictures:
    """The JPEG files in train/ and val/, a `normtables.data.folders.Group`."""

    def found(self, base: Path) -> list[Path]:
        """The two folders, as far as they are there."""
        return [base / part for part in COUNTS if (base / part).is_dir()]

    def flaw(self, root: Path, base: Path) -> tuple[str, bool] | None:
        """What is wrong with the folder: parts that are missing, or a number of JPEG files that is not ImageNet's."""
        for part in COUNTS:
            if not (base / part).is_dir():
                return f"{base / part} is missing", False
        inside = {part: sorted(entry.path for entry in os.scandir(base / part) if entry.is_dir()) for part in COUNTS}
        if not inside["val"] and not any((base / name).exists() for name in (LABELS, META, DEVKIT)):
            return f"{base / LABELS} (or {DEVKIT}) is missing, which tells the classes of the pictures in val/", False
        places = [*inside["train"], *inside["val"], str(base / "val")]
        facts = [f"{path} {os.stat(path).st_mtime_ns}" for path in places]
        stamp = hashlib.sha256("\n".join([*facts, str(COUNTS)]).encode()).hexdigest()[:24] + ".whole"
        if derived.exists(root, stamp):
            return None
        for part, wanted in COUNTS.items():
            count = sum(len(pictures(Path(path))) for path in inside[part] or [str(base / part)])
            if count != wanted:
                return f"{base / part} is damaged: it has {count:,} JPEG files, it should have {wanted:,}", True
        derived.store(root, stamp, lambda target: target.touch())
        return None


def unpack(folder: Path) -> None:
    """Turn the three archives of image-net.org in the folder into train/ and val/, their md5 checked."""
    from torchvision.datasets.imagenet import ARCHIVE_META, parse_devkit_archive, parse_train_archive, parse_val_archive

    names = [name for name, _ in ARCHIVE_META.values()]
    if missing := [name for name in names if not (folder / name).exists()]:
        raise UserError(
            f"ImageNet needs an account: put {', '.join(missing)} from image-net.org into {folder} and call this again,"
            f" or put folders train/ and val/ of JPEG files there ({files.OTHER_FOLDER})"
        )
    parse_devkit_archive(folder)
    parse_train_archive(folder)
    parse_val_archive(folder)


files.SOURCES["imagenet"] = Source(
    layouts=(Layout("imagenet", groups=(Pictures(),)),),
    download=154_644_969_425,
    kept=1_331_167 * 3 * 256**2,
    licence="image-net.org: non-commercial research and education only",
    unpack=unpack,
)
