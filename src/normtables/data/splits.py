"""Drawing splits and subsets by the data seed, and turning arrays into tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normtables.data import Dataset, Multilabel, Split
from normtables.errors import UserError

Indices = NDArray[np.int64]
Arrays = tuple[NDArray[np.float32], NDArray[Any]]


def generator(seed: int) -> np.random.RandomState:
    """The source of every draw; RandomState, because NumPy froze its streams and a seed must mean the same for ever."""
    return np.random.RandomState(seed)


def check_size(option: str, size: int, available: int) -> None:
    """Raise UserError unless 1 <= size < available (something must be left over for training)."""
    if not 1 <= size < available:
        raise UserError(
            f"dataset.{option}={size} should lie between 1 and {available - 1}: there are {available} to take from"
        )


def last(available: int, valid: int) -> tuple[Indices, Indices]:
    """Training and validation indices: the last `valid` of the training file are held out, as in Lasagne's examples."""
    check_size("valid", valid, available)
    return np.arange(available - valid), np.arange(available - valid, available)


def drawn(available: int, size: int, option: str, rng: np.random.RandomState) -> tuple[Indices, Indices]:
    """The indices that remain and `size` drawn ones, both in ascending order."""
    check_size(option, size, available)
    order = rng.permutation(available)
    return np.sort(order[size:]), np.sort(order[:size])


def stratified(targets: NDArray[Any], size: int, option: str, rng: np.random.RandomState) -> tuple[Indices, Indices]:
    """Like `drawn`, each class in proportion to its size (largest remainders)."""
    check_size(option, size, len(targets))
    counts = np.bincount(targets)
    exact = counts * size / len(targets)
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: size - shares.sum()]] += 1
    chosen = per_class(targets, shares, rng)
    return np.setdiff1d(np.arange(len(targets)), chosen), chosen


def balanced(targets: NDArray[Any], size: int, rng: np.random.RandomState) -> Indices:
    """Indices of `size` examples, classes as equal as their sizes allow; one seed's draws are nested."""
    if not 1 <= size <= len(targets):
        raise UserError(
            f"dataset.train={size} should lie between 1 and {len(targets)}, the training examples there are"
        )
    counts = np.bincount(targets)
    shares, rest = np.zeros_like(counts), size
    for rank, label in enumerate(np.argsort(counts, kind="stable")):
        shares[label] = min(counts[label], rest // (len(counts) - rank))
        rest -= shares[label]
    return per_class(targets, shares, rng)


def per_class(targets: NDArray[Any], shares: NDArray[Any], rng: np.random.RandomState) -> Indices:
    """Ascending indices of `shares[c]` examples drawn from each class c."""
    order = [rng.permutation(np.flatnonzero(targets == label)) for label in range(len(shares))]
    return np.sort(np.concatenate([rows[:share] for rows, share in zip(order, shares)]))


def dataset(parts: Sequence[Arrays], classes: int) -> Dataset:
    """Training, validation and test (inputs, targets) as tensors; inputs share the arrays' memory."""
    train, valid, test = (split(*part) for part in parts)
    return Dataset(train, valid, test, classes)


def multilabel(parts: Sequence[Arrays]) -> Multilabel:
    """Training, validation and test (inputs, targets [N, tasks] with NaN for missing labels) as tensors."""
    train, valid, test = (split(*part, np.float32) for part in parts)
    return Multilabel(train, valid, test)


def split(inputs: NDArray[np.float32], targets: NDArray[Any], kind: type = np.int64) -> Split:
    """Inputs and targets as tensors; inputs share the array's memory."""
    import torch  # here, so that listing data sets stays free of torch

    return Split(torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(targets.astype(kind)))
