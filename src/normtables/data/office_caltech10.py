"""Office-Caltech10 (Gong et al. 2012): features of four domains with ten common classes; docs/domains.md."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Domains, files, splits
from normtables.data.domains import different, held_out
from normtables.data.files import File, Layout, Source
from normtables.data.folders import Folder
from normtables.errors import UserError

Domain = Literal["amazon", "caltech", "dslr", "webcam"]
Features = Literal["surf", "googlenet"]
COUNTS = {"amazon": 958, "caltech": 1_123, "dslr": 157, "webcam": 295}  # images
WIDTHS = {"surf": 800, "googlenet": 1_024}

COMMIT = "00a61dbfa42403199ec622b44a027928f0cc9332"
REPOSITORY = "OfficeCaltechDomainAdaptation"
SURF = (Folder("surf/*.mat", 4, "fb8ad54189bbadd1ac4d4a9572b41841f5fd2f00ee4a16b686c74a194b230ae1"),)
GOOGLENET = (Folder("GoogleNet1024/*.mat", 4),)
PARTS = {"surf": SURF, "googlenet": GOOGLENET}
files.SOURCES["office_caltech10"] = Source(
    layouts=(
        Layout(f"{REPOSITORY}-{COMMIT}/features", parts=PARTS),
        Layout("office_caltech10", parts=PARTS),
        Layout("office_caltech10", parts={**PARTS, "surf": (Folder("*_SURF_L10.mat", 4),)}),  # GFK's own names
    ),
    download=150_000_000,  # a round figure: its size is not documented
    licence="B. Gong, Y. Shi, F. Sha, K. Grauman (SURF), K. Saenko et al.; no licence stated",
    archive=File(
        f"{REPOSITORY}.tar.gz",
        150_000_000,
        "",  # GitHub packs it anew
        (f"https://github.com/redhat12345/{REPOSITORY}/archive/{COMMIT}.tar.gz",),
    ),
    by="features",
)


@DATASETS.register("office_caltech10", version=1)
def office_caltech10(
    root: Path,
    seed: int,
    *,
    source: Domain = "amazon",
    target: Domain = "webcam",
    features: Features = "surf",
    valid: float = 0.0,
) -> Domains:
    """Features [N, F] of the images of ten classes in two domains: 800 SURF words, or 1,024 of GoogLeNet.

    Prepared as in GFK's code: SURF counts are divided by their sum, and then each domain gets mean 0 and variance 1 by
    itself. Transductive: all of the target is looked at without labels and tested on. `seed` draws validation.
    """
    different(source, target)
    place = files.locate("office_caltech10", root, features)
    (inputs, labels), (others, targets) = (read(place, domain, features) for domain in (source, target))
    rows = held_out(labels, valid, splits.generator(seed))
    train, held = (splits.split(inputs[part], labels[part]) for part in rows)
    unlabelled = splits.split(others, targets)
    return Domains(train, held, unlabelled, unlabelled, 10)


def read(place: files.Place, domain: Domain, features: Features) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Prepared features and classes 0..9 of a domain; raises UserError for a file that does not hold its images."""
    from scipy.io import loadmat, matlab  # here, so that listing data sets stays quick

    [group] = place.layout.parts[features]
    path = next(p for p in group.found(place.path(".")) if p.name.lower().startswith(domain))
    try:
        found = loadmat(path)
        counts, labels = found["fts"].astype(float), found["labels"].ravel().astype(np.int64) - 1
    except (matlab.MatReadError, NotImplementedError, OSError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise UserError(f"data set 'office_caltech10': {path} is damaged: {error}") from error
    right = counts.shape == (COUNTS[domain], WIDTHS[features]) and len(labels) == len(counts)
    if not right or set(labels) != set(range(10)):
        raise UserError(
            f"data set 'office_caltech10': {path} is damaged: it should hold {WIDTHS[features]} features (fts) and"
            f" a class from 1 to 10 (labels) of {COUNTS[domain]} images"
        )
    return standardised(counts / counts.sum(1, keepdims=True) if features == "surf" else counts), labels


def standardised(inputs: NDArray[np.float64]) -> NDArray[np.float32]:
    """Each column with mean 0 and variance 1 (divided by N); one that is constant becomes 0, as in MATLAB's zscore."""
    centred = inputs - inputs.mean(0)
    deviation = inputs.std(0)
    return (centred / np.where(deviation > 0, deviation, 1)).astype(np.float32)
