"""Handwritten and printed digits as two domains, and corruptions of either as a third; nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from normtables.data import DATASETS, Domains, splits
from normtables.data.corruptions import SEVERITY, Corruption, corrupted
from normtables.data.domains import pair
from normtables.data.fonts import printed
from normtables.data.images import check_side, handwritten
from normtables.data.prep import Scale
from normtables.errors import UserError

Domain = Literal["digits", "fonts"]
DRAWN = {"digits": handwritten, "fonts": printed}


@DATASETS.register("embedded_domains", version=1)
def embedded_domains(
    root: Path,
    seed: int,
    *,
    source: Domain = "digits",
    target: Domain = "fonts",
    target_corruption: Corruption = "none",
    severity: int = SEVERITY,
    size: int = 16,
    valid: float = 0.15,
    test: int = 300,
    scale: Scale = "unit",
) -> Domains:
    """1,797 handwritten (scikit-learn's) and 1,800 printed digits, [N, 1, size, size], as source and target.

    The target's images may be corrupted. Where both are the same images, half of them is the source and half the
    target: no image is in both. Of the target `test` are drawn for testing and the rest is what methods may look at;
    0: all are both. `seed` draws the splits and the noise.
    """
    check_side(size)
    if source == target and target_corruption == "none":
        raise UserError(f"dataset.source and dataset.target are both {source}: choose a dataset.target_corruption")
    rng = splits.generator(seed)
    ours, others = DRAWN[source](size), DRAWN[target](size)
    if source == target:
        rows = splits.stratified(ours[1], len(ours[1]) // 2, "target", rng)
        ours, others = ((ours[0][part], ours[1][part]) for part in rows)
    images, labels = corrupted(others[0], target_corruption, severity, rng), others[1]
    if test == 0:
        return pair(ours, (images, labels), None, valid, rng, scale)
    rest, tested = splits.stratified(labels, test, "test", rng)
    return pair(ours, (images[rest], labels[rest]), (images[tested], labels[tested]), valid, rng, scale)
