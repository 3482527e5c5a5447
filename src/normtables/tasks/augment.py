"""Changes to training images that keep their class, drawn anew for every batch: flips, windows, crops, colours."""

import hashlib
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from normtables.data.pixels import Pixels
from normtables.errors import UserError

Augment = Literal["none", "flip", "flip_crop", "inception", "inception_weak"]
Change = Callable[[Tensor, Tensor, int], Tensor]  # (images [B, C, side, side], four numbers 0..1 each, size) -> images

DRAWS = 4  # random numbers for each image and change
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a crop: share of the picture, width over height (GoogLeNet)
GREY = (0.299, 0.587, 0.114)  # shares of red, green and blue in brightness (ITU-R 601)


def augmented(
    name: Augment, inputs: Tensor | Pixels, chosen: Tensor, seed: int, step: int, part: slice = slice(None)
) -> Tensor:
    """The inputs at the positions `chosen`, changed as `name` says, of which a `part` is given: a function of its
    arguments alone.

    The numbers are drawn on the CPU, so that every device sees the same, and for all of `chosen`, so that every part
    does.
    """
    examples, chosen = len(chosen), chosen[part]
    if name == "none":
        return inputs.index_select(0, chosen)
    images = inputs.whole(chosen) if isinstance(inputs, Pixels) else inputs.index_select(0, chosen)
    key = hashlib.sha256(f"augment {seed} {step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:4]))
    changes = AUGMENTS[name]
    drawn = torch.rand(len(changes), DRAWS, examples, generator=generator)[..., part].to(images.device, images.dtype)
    for change, numbers in zip(changes, drawn):
        images = change(images, numbers[..., None, None, None], inputs.shape[-1])
    return inputs.finished(inputs.central(images)) if isinstance(inputs, Pixels) else images


def check(name: Augment, inputs: Tensor | Pixels) -> None:
    """Raise UserError where the training inputs are not of the kind that `name` changes."""
    if name == "none":
        return
    what = f"dataset.task.augment={name}"
    if len(inputs.shape) != 4:
        raise UserError(f"{what}: it changes images, and this data set has none")
    if any(change in COLOURS for change in AUGMENTS[name]):
        if inputs.shape[1] != 3:
            raise UserError(f"{what}: it changes colours, and these images are grey")
        if not isinstance(inputs, Pixels) and not (inputs.min() >= 0 and inputs.max() <= 1):
            raise UserError(f"{what}: it changes colours 0..1; set dataset.scale=unit and dataset.prep=none")


def flip(images: Tensor, drawn: Tensor, size: int) -> Tensor:
    """Left and right exchanged, in every second image."""
    return torch.where(drawn[0] < 0.5, images.flip(-1), images)


def window(images: Tensor, drawn: Tensor, size: int) -> Tensor:
    """A window of `size` pixels; pictures that are no larger get a margin of zeros first, an eighth of their side."""
    margin = size // 8 if images.shape[-1] == size else 0
    images = functional.pad(images, [margin] * 4)
    places = images.shape[-1] - size + 1
    offsets = torch.arange(size, device=images.device)
    y, x = ((drawn[i].flatten() * places).long().clamp(max=places - 1)[:, None] + offsets for i in (0, 1))
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    return images[batch, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def crop(images: Tensor, drawn: Tensor, size: int) -> Tensor:
    """A part of random area and aspect, anywhere, resized to `size` (bilinear); one too wide or high is cut to fit."""
    area, aspect, x, y = (drawn[i].flatten() for i in range(4))
    area = AREA[0] + area * (AREA[1] - AREA[0])
    aspect = torch.exp(math.log(ASPECT[0]) + aspect * math.log(ASPECT[1] / ASPECT[0]))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    zero = torch.zeros_like(area)
    rows = (2 * x - 1) * (1 - width), (2 * y - 1) * (1 - height)  # the part's centre, -1..1 across the picture
    matrices = torch.stack([width, zero, rows[0], zero, height, rows[1]], 1).view(-1, 2, 3)
    grid = functional.affine_grid(matrices, [len(images), 1, size, size], align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def colours(strength: float) -> Change:
    """Brightness, contrast and saturation, each times a factor between 1 - strength and 1 + strength (Howard 2013)."""

    def change(images: Tensor, drawn: Tensor, size: int) -> Tensor:
        brightness, contrast, saturation = (1 + strength * (2 * drawn[i] - 1) for i in range(3))
        shares = images.new_tensor(GREY)[:, None, None]
        images = images * brightness
        grey = (images * shares).sum(1, keepdim=True)
        images = torch.lerp(grey.mean((2, 3), keepdim=True), images, contrast)
        images = torch.lerp((images * shares).sum(1, keepdim=True), images, saturation)
        return images.clamp(0, 1)

    return change


STRONG, WEAK = colours(0.5), colours(0.2)  # Howard's amount; "weaker" in the source, which gives no amount
COLOURS = (STRONG, WEAK)
AUGMENTS: dict[str, tuple[Change, ...]] = {
    "flip": (flip,),
    "flip_crop": (window, flip),
    "inception": (crop, flip, STRONG),
    "inception_weak": (crop, flip, WEAK),
}
