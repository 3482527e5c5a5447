"""Changes that make another domain of images 0..1: contrast, blur, noise, inversion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from normtables.data.prep import Floats
from normtables.errors import UserError

Corruption = Literal["none", "contrast", "blur", "noise", "inversion"]
Change = Callable[[Floats, float, np.random.RandomState], Floats]  # (images [N, C, side, side], amount, rng) -> images

SEVERITY = 3
# amounts at severities 1 to 5; contrast and noise are those of ImageNet-C (Hendrycks & Dietterich 2019, their code)
AMOUNTS = {
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # factor on what differs from the image's mean
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation
    "blur": (0.04, 0.06, 0.08, 0.12, 0.16),  # standard deviation of the Gaussian, in sides of the image
    "inversion": (1.0,) * 5,
}


def corrupted(images: Floats, kind: Corruption, severity: int, rng: np.random.RandomState) -> Floats:
    """Images [N, C, side, side], 0..1, changed; raises UserError for a severity that `kind` does not have."""
    if not 1 <= severity <= 5:
        raise UserError(f"dataset.severity={severity}: a whole number from 1 to 5")
    if kind in ("none", "inversion") and severity != SEVERITY:
        raise UserError(
            f"dataset.severity={severity}: target_corruption={kind} has no severity, leave it at {SEVERITY}"
        )
    return images if kind == "none" else CHANGES[kind](images, AMOUNTS[kind][severity - 1], rng)


def weaken(images: Floats, factor: float, rng: np.random.RandomState) -> Floats:
    """Each pixel nearer to its image's mean."""
    mean = images.mean((2, 3), keepdims=True)
    return (images - mean) * np.float32(factor) + mean


def blur(images: Floats, share: float, rng: np.random.RandomState) -> Floats:
    """A Gaussian mean; outside the image its edge goes on."""
    from scipy.ndimage import gaussian_filter  # here, so that listing data sets stays quick

    sigma = share * images.shape[-1]
    return gaussian_filter(images, (0, 0, sigma, sigma), mode="nearest")


def add_noise(images: Floats, deviation: float, rng: np.random.RandomState) -> Floats:
    """Gaussian noise, each pixel by itself; what leaves 0..1 is cut."""
    return np.clip(images + rng.normal(0, deviation, images.shape), 0, 1).astype(np.float32)


def invert(images: Floats, amount: float, rng: np.random.RandomState) -> Floats:
    """Dark for light."""
    return 1 - images


CHANGES: dict[str, Change] = {"contrast": weaken, "blur": blur, "noise": add_noise, "inversion": invert}
