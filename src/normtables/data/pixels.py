"""Images kept as bytes, on the run's device or on disk, and turned into inputs batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Bytes = NDArray[np.uint8]


class Disk:
    """Bytes [N, C, side, side] in several arrays mapped from the disk; they stay there, whatever a run's device is."""

    def __init__(self, parts: Sequence[Bytes]) -> None:
        self.parts = list(parts)
        self.starts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """The bytes of these rows, read into memory."""
        import torch  # here, so that listing data sets stays free of torch

        numbers = rows.cpu().numpy()
        which = np.searchsorted(self.starts, numbers, side="right") - 1
        read = [self.parts[part][row] for part, row in zip(which, numbers - self.starts[which])]
        return torch.from_numpy(np.stack(read))


@dataclass(frozen=True, eq=False)
class Pixels:
    """Some rows of stored bytes [M, C, side, side], read like a float tensor [N, C, size, size] of inputs.

    An input is the central window of `size` pixels, 0..1, less `mean`, over `deviation` (both [C, 1, 1]). A tensor of
    bytes goes to the run's device with the rest of the data set, a `Disk` stays where it is.
    """

    stored: Tensor | Disk
    rows: Tensor
    mean: Tensor
    deviation: Tensor
    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the inputs that this stands for."""
        return (len(self.rows), self.stored.shape[1], self.size, self.size)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Tensor:
        return self.index_select(0, self.rows.new_tensor([row]))[0]

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The inputs at these positions, as torch.Tensor.index_select along the first axis."""
        return self.finished(self.units(self.central(self._bytes(index))))

    def split(self, size: int) -> Iterator[Tensor]:
        """The inputs in order, `size` at a time."""
        import torch

        for positions in torch.arange(len(self), device=self.rows.device).split(size):
            yield self.index_select(0, positions)

    def whole(self, index: Tensor) -> Tensor:
        """The stored pictures at these positions, 0..1, [n, C, side, side]: what crops are taken from."""
        return self.units(self._bytes(index))

    def central(self, images: Tensor) -> Tensor:
        """The middle of pictures, `size` pixels a side."""
        start = (images.shape[-1] - self.size) // 2
        return images[..., start : start + self.size, start : start + self.size]

    def units(self, images: Tensor) -> Tensor:
        """Bytes to 0..1 on the device and in the precision of the run."""
        return images.to(self.mean.device).to(self.mean.dtype) / 255

    def finished(self, images: Tensor) -> Tensor:
        """Pictures 0..1 to inputs."""
        return (images - self.mean) / self.deviation

    def _bytes(self, index: Tensor) -> Tensor:
        return self.stored.index_select(0, self.rows.index_select(0, index))
