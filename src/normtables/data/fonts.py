"""Digits drawn in Matplotlib's fonts: a second domain of the classes of `digits`, drawn anew in every process."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Dataset
from normtables.data.images import check_side, drawn_splits
from normtables.data.prep import Floats, Prep, Scale, dataset

FONTS = """
    DejaVuSans DejaVuSans-Bold DejaVuSans-Oblique DejaVuSansMono DejaVuSansMono-Bold DejaVuSerif DejaVuSerif-Bold
    DejaVuSerif-Italic STIXGeneral STIXGeneralBol STIXGeneralItalic STIXGeneralBolIta cmr10 cmb10 cmss10 cmtt10
    cmti10""".split()  # noqa: SIM905
IMAGES = 1_800  # as many of each digit, fonts in turn
SIDE, HEIGHT = 64, 52  # pixels: the picture a digit is drawn in, and the digit before it is jittered
SEED = 20_201_120
ANGLE, SHEAR, STRETCH, SHIFT = np.pi / 12, 0.2, 0.15, 0.08  # largest jitter: radians, slope, share, share of the side


@DATASETS.register("digit_fonts", version=1)
def digit_fonts(
    root: Path,
    seed: int,
    *,
    size: int = 8,
    valid: int = 300,
    test: int = 300,
    scale: Scale = "unit",
    prep: Prep = "none",
    train: int | None = None,
) -> Dataset:
    """1,800 printed digits, [N, 1, size, size], 0..1, light on dark; stratified splits drawn by the data seed."""
    check_side(size)
    return dataset(drawn_splits(*printed(size), seed, valid, test, train), 10, scale, prep)


def printed(size: int) -> tuple[Floats, NDArray[np.int64]]:
    """All pictures [N, 1, size, size], 0..1, and their digits."""
    pictures, labels = drawn()
    cell = SIDE // size
    return pictures.reshape(IMAGES, 1, size, cell, size, cell).mean((3, 5)), labels


@cache
def drawn() -> tuple[Floats, NDArray[np.int64]]:
    """All pictures [N, SIDE, SIDE], 0..1, and their digits: each in a font, turned, slanted, stretched and shifted."""
    import torch  # here, so that listing data sets stays free of torch
    from torch.nn import functional

    labels = np.arange(IMAGES) % 10
    fonts = np.arange(IMAGES) // 10 % len(FONTS)
    glyphs = np.stack([[glyph(font, digit) for digit in range(10)] for font in FONTS])
    pictures = torch.from_numpy(glyphs[fonts, labels][:, None])
    matrices = torch.from_numpy(jitter(np.random.RandomState(SEED)))
    grid = functional.affine_grid(matrices, list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures, grid, align_corners=False)
    return moved[:, 0].numpy(), labels


def jitter(rng: np.random.RandomState) -> Floats:
    """A [2, 3] matrix for each picture, from places in the result to places in the drawing (both -1..1)."""
    angle, shear, wide, high, x, y = rng.uniform(-1, 1, (6, IMAGES))
    cos, sin, slope = np.cos(ANGLE * angle), np.sin(ANGLE * angle), SHEAR * shear
    wide, high = 1 + STRETCH * wide, 1 + STRETCH * high
    across = [cos * wide, (slope * cos - sin) * high, 2 * SHIFT * x]
    down = [sin * wide, (slope * sin + cos) * high, 2 * SHIFT * y]
    return np.array([across, down]).transpose(2, 0, 1).astype(np.float32)


def glyph(font: str, digit: int) -> Floats:
    """A digit in the middle of a picture [SIDE, SIDE], HEIGHT pixels high, 0..1."""
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font

    face = FT2Font(str(Path(get_data_path(), "fonts", "ttf", f"{font}.ttf")))
    face.set_size(4 * HEIGHT, 72)  # larger than needed, so that the reduction below smooths the edges
    face.set_text(str(digit))
    face.draw_glyphs_to_bitmap(antialiased=True)
    return centred(np.asarray(face.get_image(), np.float32) / np.float32(255))


def centred(image: Floats) -> Floats:
    """What is drawn in an image, scaled to HEIGHT pixels of height (a width above SIDE is squeezed), in the middle."""
    import torch
    from torch.nn import functional

    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    box = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    width = min(SIDE, round(box.shape[1] * HEIGHT / box.shape[0]))
    scaled = functional.interpolate(torch.from_numpy(box)[None, None], (HEIGHT, width), mode="area")[0, 0].numpy()
    picture = np.zeros((SIDE, SIDE), np.float32)
    top, left = (SIDE - HEIGHT) // 2, (SIDE - width) // 2
    picture[top : top + HEIGHT, left : left + width] = scaled
    return picture
