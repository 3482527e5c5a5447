"""What is done to images before a network sees them: scaling, contrast normalisation, whitening; docs/images.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from normtables.data import Dataset, derived, files, splits
from normtables.errors import UserError

Floats = NDArray[np.float32]
Images = NDArray[Any]  # [N, C, H, W]: bytes 0..255, or floats that are scaled already
Scale = Literal["unit", "standard"]
Prep = Literal["none", "global", "mean", "gcn", "gcn_zca", "gcn_lcn"]
Step = Callable[[list[Floats]], None]  # changes the images of all splits in place; the first are for training

VERSION = 1  # part of the kept files' names; raise it when a step changes its numbers
CHUNK = 1_000  # images that a step converts at once
ZCA_BIAS = 0.1  # pylearn2's filter_bias, added to every eigenvalue of the covariance
WINDOW, SIGMA, LEAST = 7, 2.0, 1e-4  # pylearn2's LeCunLCN: kernel size and its deviation in pixels, least divisor


def dataset(
    parts: Sequence[tuple[Images, NDArray[Any]]],
    classes: int,
    scale: Scale,
    prep: Prep,
    kept_as: tuple[files.Place, Sequence[Any]] | None = None,
) -> Dataset:
    """The (images, labels) of training, validation and test, scaled and prepared, as a data set.

    kept_as: the files the images came from and the options that chose them; the result of a costly `prep` is then kept
    beside the files. Raises UserError for a scale that `prep` would undo.
    """
    if prep != "none" and scale != "unit":
        raise UserError(f"dataset.scale={scale}: dataset.prep={prep} sets the scale itself, leave scale at unit")
    images = [part for part, _ in parts]
    if prep in COSTLY and kept_as:
        place, options = kept_as
        whole = derived.array(place.root, _name(place, [prep, *options]), lambda: prepared(images, scale, prep))
    else:
        whole = prepared(images, scale, prep)
    bounds = np.cumsum([len(part) for part in images])[:-1]
    return splits.dataset([(part, labels) for part, (_, labels) in zip(np.split(whole, bounds), parts)], classes)


def prepared(parts: Sequence[Images], scale: Scale, prep: Prep) -> Floats:
    """All images in one array, those for training first: bytes to 0..1, then the steps of `scale` and `prep`."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.float32)
    views = np.split(whole, np.cumsum([len(part) for part in parts])[:-1])
    for view, part in zip(views, parts):
        np.divide(part, np.float32(255 if part.dtype == np.uint8 else 1), out=view)
    for step in (*SCALES[scale], *PREPS[prep]):
        step(views)
    return whole


def standardise(axes: tuple[int, ...]) -> Step:
    """A step: mean 0, variance 1 over these axes of the training images."""

    def step(parts: list[Floats]) -> None:
        total: Any = sum(images.sum(axes, np.float64, keepdims=True) for images in _chunks(parts[:1]))
        count = parts[0].size // total.size
        mean = total / count
        squares: Any = sum(np.square(images - mean).sum(axes, keepdims=True) for images in _chunks(parts[:1]))
        deviation = np.sqrt(squares / count).astype(np.float32)
        for images in parts:
            images -= mean.astype(np.float32)
            images /= deviation

    return step


def subtract_mean(parts: list[Floats]) -> None:
    """Each pixel less its mean over the training images."""
    mean = parts[0].mean(0, np.float64).astype(np.float32)
    for images in parts:
        images -= mean


def normalise_by_norm(parts: list[Floats]) -> None:
    """Global contrast normalisation as for CIFAR-10 in pylearn2: each image less its mean, over its Euclidean norm.

    The norm becomes 55 for 3 x 32 x 32 values; images of other sizes get the same root mean square (0.992).
    """
    target = 55 * np.sqrt(parts[0][0].size / 3072)
    for images in _chunks(parts):
        images -= images.mean((1, 2, 3), np.float64, keepdims=True).astype(np.float32)
        norm = np.sqrt(np.square(images).sum((1, 2, 3), np.float64, keepdims=True)) / target
        images /= np.where(norm < 1e-8, 1, norm).astype(np.float32)


def normalise_by_deviation(parts: list[Floats]) -> None:
    """Global contrast normalisation as for SVHN in pylearn2: less the mean, over sqrt(10 + variance) in grey levels."""
    for images in _chunks(parts):
        images -= images.mean((1, 2, 3), np.float64, keepdims=True).astype(np.float32)
        variance = images.var((1, 2, 3), np.float64, ddof=1, keepdims=True)
        images /= np.sqrt(10 / 255**2 + variance).astype(np.float32)


def whiten(parts: list[Floats]) -> None:
    """ZCA: (x - mean) (covariance + 0.1)^(-1/2), fitted on the training images."""
    flat = [images.reshape(len(images), -1) for images in parts]
    mean = flat[0].mean(0, np.float64).astype(np.float32)
    covariance = np.zeros((len(mean), len(mean)))
    for rows in _chunks(flat[:1]):
        centred = rows - mean
        covariance += centred.T @ centred
    values, vectors = np.linalg.eigh(covariance / len(flat[0]))
    whitening = ((vectors / np.sqrt(np.maximum(values, 0) + ZCA_BIAS)) @ vectors.T).astype(np.float32)
    for rows in _chunks(flat):
        rows[:] = (rows - mean) @ whitening


def normalise_locally(parts: list[Floats]) -> None:
    """LeCun's local contrast normalisation as in pylearn2, each channel by itself.

    Less the Gaussian mean of the window around a pixel, over the root of the window's mean square where that is larger
    than its mean over the image. Pixels outside the image count as 0.
    """
    blurs = [_blur(side) for side in parts[0].shape[2:]]
    for images in _chunks(parts):
        centred = images - blurs[0] @ images @ blurs[1]
        size = np.sqrt(blurs[0] @ np.square(images) @ blurs[1])
        np.maximum(size, np.maximum(size.mean((2, 3), keepdims=True), np.float32(LEAST)), out=size)
        np.divide(centred, size, out=images)


def _blur(side: int) -> Floats:
    """The matrix that takes the Gaussian mean along an axis of `side` pixels; symmetric."""
    distance = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    weights = np.exp(-(np.arange(-(WINDOW // 2), WINDOW // 2 + 1) ** 2) / (2 * SIGMA**2))
    weight = np.exp(-(distance**2) / (2 * SIGMA**2)) / weights.sum()
    return np.where(distance <= WINDOW // 2, weight, 0).astype(np.float32)


def _chunks(parts: list[Floats]) -> Iterator[Floats]:
    for part in parts:
        for start in range(0, len(part), CHUNK):
            yield part[start : start + CHUNK]


def _name(place: files.Place, options: Sequence[Any]) -> str:
    """The name under which prepared images are kept: their files' content, the options and this module's version."""
    key = json.dumps([VERSION, [file.digest for file in place.layout.files], *options])
    return f"prep-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"


SCALES: dict[str, tuple[Step, ...]] = {"unit": (), "standard": (standardise((0, 2, 3)),)}
PREPS: dict[str, tuple[Step, ...]] = {
    "none": (),
    "global": (standardise((0, 1, 2, 3)),),
    "mean": (subtract_mean,),
    "gcn": (normalise_by_norm,),
    "gcn_zca": (normalise_by_norm, whiten),
    "gcn_lcn": (normalise_by_deviation, normalise_locally),
}
COSTLY = ("gcn_zca", "gcn_lcn")  # half a minute for CIFAR; the others take as long as reading a kept file
