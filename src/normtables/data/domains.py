"""Pairs of domains from arrays: the source's validation examples, one scale for both; docs/domains.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normtables.data import Domains, splits
from normtables.data.prep import Images, Scale, prepared
from normtables.errors import UserError

Labelled = tuple[Images, NDArray[Any]]  # images [N, C, H, W] (bytes, or floats 0..1), classes [N]


def held_out(labels: NDArray[Any], valid: float, rng: np.random.RandomState) -> tuple[splits.Indices, splits.Indices]:
    """Training and validation rows of a source: a share `valid` of it, stratified, is held out.

    0: all are for training, as most protocols have it, and validation looks at the same ones. Raises UserError for
    another share than 0 <= valid < 1.
    """
    if not 0 <= valid < 1:
        raise UserError(f"dataset.valid={valid}: the share of the source that is held out, from 0 to below 1")
    if valid == 0:
        return np.arange(len(labels)), np.arange(len(labels))
    return splits.stratified(labels, min(max(1, round(valid * len(labels))), len(labels) - 1), "valid", rng)


def pair(
    source: Labelled, target: Labelled, test: Labelled | None, valid: float, rng: np.random.RandomState, scale: Scale
) -> Domains:
    """Two domains of images of one shape; `scale` is fitted on the source's training images and applied to all.

    test: None where the protocol is transductive: accuracy is taken on the target's own examples.
    """
    images, labels = source
    kept, held = held_out(labels, valid, rng)
    parts = [source] if valid == 0 else [(images[rows], labels[rows]) for rows in (kept, held)]
    parts += [target] if test is None else [target, test]
    whole = prepared([part for part, _ in parts], scale, "none")
    bounds = np.cumsum([len(part) for part, _ in parts])[:-1]
    made = [splits.split(part, targets) for part, (_, targets) in zip(np.split(whole, bounds), parts)]
    return Domains(
        train=made[0],
        valid=made[0 if valid == 0 else 1],
        target=made[-1 if test is None else -2],
        test=made[-1],
        classes=int(labels.max()) + 1,
    )


def different(source: str, target: str) -> None:
    """Raise UserError where source and target are the same domain."""
    if source == target:
        raise UserError(f"dataset.source={source} and dataset.target={target}: choose two different domains")
