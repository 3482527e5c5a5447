"""Office-31 (Saenko et al. 2010): photographs of 31 kinds of office objects in three domains; docs/domains.md."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Domains, Split, derived, files, splits
from normtables.data.domains import different, held_out
from normtables.data.files import File, Layout, Source
from normtables.data.folders import Folder
from normtables.data.imagenet import DEVIATION, MEAN, squared
from normtables.data.pixels import Bytes, Pixels
from normtables.data.prep import Scale
from normtables.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Domain = Literal["amazon", "dslr", "webcam"]
COUNTS = {"amazon": 2_817, "dslr": 498, "webcam": 795}  # JPEG files
CLASSES = 31
DECODER = 1  # part of the kept files' names; raise it when what is stored changes

files.SOURCES["office31"] = Source(
    layouts=tuple(
        Layout(folder, groups=tuple(Folder(f"{domain}/{inside}*/*.jpg", count) for domain, count in COUNTS.items()))
        for folder in ("office31", "domain_adaptation_images")
        for inside in ("images/", "")
    ),
    download=76_000_000,  # about
    kept=sum(COUNTS.values()) * 3 * 256**2,
    licence="K. Saenko, B. Kulis, M. Fritz, T. Darrell; no licence stated; pictures of amazon.com's merchants",
    archive=File(
        "office31.tar.gz",
        76_000_000,
        "89818e596f3cdda1d56da0f077435faa",
        ("https://cornell.box.com/shared/static/3v2ftdkdhpz1lbbr4uhu0135w7m79p7q",),
    ),
)


@DATASETS.register("office31", version=1)
def office31(
    root: Path,
    seed: int,
    *,
    source: Domain = "amazon",
    target: Domain = "webcam",
    size: int = 224,
    stored: int = 256,
    valid: float = 0.1,
    scale: Scale = "standard",
) -> Domains:
    """Two of three domains, [N, 3, size, size]: all of the source's images with labels, all of the target's without.

    Transductive, as in the "full" protocol: accuracy is taken on the target's images. Of each picture the central
    square is kept, `stored` pixels a side (bilinear), for crops; `seed` draws validation. Raises UserError for files
    that are missing or damaged.
    """
    different(source, target)
    if not 1 <= size <= stored:
        raise UserError(f"dataset.size={size}: from 1 to dataset.stored={stored}")
    place = files.locate("office31", root)
    (pictures, labels, classes), (others, targets, names) = (domain(place, name, stored) for name in (source, target))
    if classes != names or len(classes) != CLASSES:
        raise UserError(
            f"data set 'office31': {place.path('.')} is damaged: {source} and {target} should have the same"
            f" {CLASSES} folders, they have {len(classes)} and {len(names)}"
        )
    kept, held = held_out(labels, valid, splits.generator(seed))
    train, validation = (split(pictures, labels, rows, scale, size) for rows in (kept, held))
    unlabelled = split(others, targets, np.arange(len(targets)), scale, size)
    return Domains(train, validation, unlabelled, unlabelled, CLASSES)


def split(stored: Tensor, labels: NDArray[np.int64], rows: NDArray[np.int64], scale: Scale, size: int) -> Split:
    """These rows of stored bytes and of their labels."""
    import torch  # here, so that listing data sets stays free of torch

    mean, deviation = (MEAN, DEVIATION) if scale == "standard" else ((0.0,) * 3, (1.0,) * 3)
    channels = [torch.tensor(values)[:, None, None] for values in (mean, deviation)]
    inputs = Pixels(stored, torch.from_numpy(rows.astype(np.int64)), channels[0], channels[1], size)
    return Split(cast("Tensor", inputs), torch.from_numpy(labels[rows]))


def domain(place: files.Place, name: Domain, side: int) -> tuple[Tensor, NDArray[np.int64], list[str]]:
    """Pictures of a domain as bytes [N, 3, side, side], kept beside the files, their classes and the classes' names."""
    import torch

    group = place.layout.groups[list(COUNTS).index(name)]
    paths = group.found(place.path("."))
    classes = sorted({path.parent.name for path in paths})
    facts = [f"{path.parent.name}/{path.name} {path.stat().st_size}" for path in paths]
    key = hashlib.sha256("\n".join([str(DECODER), *facts]).encode()).hexdigest()[:16]
    pictures = derived.array(place.root, f"office31-{name}-{side}-{key}.npy", lambda: decoded(paths, side))
    return torch.from_numpy(pictures), np.array([classes.index(path.parent.name) for path in paths]), classes


def decoded(paths: list[Path], side: int) -> Bytes:
    """The central squares of pictures, [N, 3, side, side]."""
    pictures = np.empty((len(paths), 3, side, side), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for row, picture in enumerate(pool.map(lambda path: squared(path, side), paths)):
            pictures[row] = picture
    return pictures
