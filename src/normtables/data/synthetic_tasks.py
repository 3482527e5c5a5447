"""Twelve yes-or-no tasks on random vectors, labelled by a small random network, labels missing. Embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Multilabel, splits

ROWS, VALID, TEST = 2_000, 300, 400
FEATURES, FACTORS, HIDDEN, TASKS = 100, 20, 30, 12
POSITIVE = (0.1, 0.3)  # share of positive labels, from the first task to the last
MISSING = (0.1, 0.4)  # share of labels that are missing, drawn by themselves
NOISE = 0.5  # deviation of what no feature tells, in that of what the teacher says
SEED = 2017  # of the synthesis: the rows are always the same


@DATASETS.register("synthetic_tasks", version=1)
def synthetic_tasks(root: Path, seed: int) -> Multilabel:
    """2,000 rows of 100 features with twelve labels, 10 to 40 % of them missing; `seed` draws 300 + 400 held out.

    Features mix 20 factors with noise; a task's label says whether a random network of 30 tanh units on the factors,
    shared by the tasks, and noise exceed the task's threshold.
    """
    inputs, targets = drawn()
    rng = splits.generator(seed)
    rest, test = splits.drawn(ROWS, TEST, "test", rng)
    kept, held = splits.drawn(len(rest), VALID, "valid", rng)
    return splits.multilabel([(inputs[rows], targets[rows]) for rows in (rest[kept], rest[held], test)])


def drawn() -> tuple[NDArray[np.float32], NDArray[Any]]:
    """All features [N, 100], each of variance 1 but for the draw, and labels [N, 12]: 0, 1 or NaN."""
    rng = splits.generator(SEED)
    factors = rng.standard_normal((ROWS, FACTORS))
    mixing = rng.standard_normal((FACTORS, FEATURES)) / np.sqrt(FACTORS)
    features = (factors @ mixing + rng.standard_normal((ROWS, FEATURES))) / np.sqrt(2)
    units = np.tanh(factors @ rng.standard_normal((FACTORS, HIDDEN)) * 2 / np.sqrt(FACTORS))
    says = units @ rng.standard_normal((HIDDEN, TASKS))
    says = says / says.std(0) + NOISE * rng.standard_normal((ROWS, TASKS))
    thresholds = [np.quantile(column, 1 - share) for column, share in zip(says.T, np.linspace(*POSITIVE, TASKS))]
    labels = (says > thresholds).astype(float)
    labels[rng.uniform(size=labels.shape) < np.linspace(*MISSING, TASKS)] = np.nan
    return features.astype(np.float32), labels
