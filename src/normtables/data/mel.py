"""Sound to features: log-mel frames, their differences in time, normalisation (Kaldi's recipes, in torch)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from normtables.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

EMPHASIS = 0.97  # pre-emphasis: y[t] = x[t] - 0.97 x[t - 1]
LOWEST = 20.0  # Hz: where the first filter begins; the last one ends at half the sampling rate
FLOOR = 1.1920929e-07  # float32's epsilon: the least energy, before the logarithm
REACH = 2  # frames to each side that a difference in time looks at


@dataclass(frozen=True)
class Analysis:
    """How sound becomes frames: `bands` mel filters, windows of `window` ms every `hop` ms, `deltas` differences."""

    bands: int
    window: float
    hop: float
    deltas: int

    def __post_init__(self) -> None:
        for name in ("bands", "window", "hop"):
            if not getattr(self, name) > 0:
                raise UserError(f"dataset.{name}={getattr(self, name)}: a number above 0")
        if not 0 <= self.deltas <= 3:
            raise UserError(f"dataset.deltas={self.deltas}: from 0 to 3 differences in time")


def mel(hertz: float) -> float:
    """Hertz to mel: 1127 ln(1 + f / 700)."""
    return 1127 * math.log1p(hertz / 700)


@cache
def filter_bank(bands: int, size: int, rate: int) -> Tensor:
    """Triangles of equal width on the mel scale, each with its peak where the next begins: [size / 2 + 1, bands].

    The rows are the frequencies of a Fourier transform of `size` samples, `rate` samples a second. Raises UserError
    where a filter would hold none of them.
    """
    import torch

    frequencies = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    points = 1127 * torch.log1p(frequencies / 700)[:, None]
    corners = torch.linspace(mel(LOWEST), mel(rate / 2), bands + 2, dtype=torch.float64)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    weights = torch.minimum((points - left) / (centre - left), (right - points) / (right - centre)).clamp_min(0)
    if (weights.sum(0) == 0).any():
        raise UserError(f"dataset.bands={bands}: too many for windows of {size} samples at {rate} Hz; take fewer")
    return weights.float()


def log_mel(sound: Tensor, rate: int, analysis: Analysis) -> Tensor:
    """Logarithms of the mel filters' energies, [frames, bands], of a sound [samples], 16-bit numbers, `rate` a second.

    Windows are Hann to the power 0.85 over frames that lie wholly in the sound; one shorter than a window is padded
    with zeros at its end. Kaldi's compute-fbank-feats, but for each frame's mean, which stays in (20 Hz and up hardly
    see it) and no dither.
    """
    import torch

    length, hop = round(rate * analysis.window / 1000), round(rate * analysis.hop / 1000)
    size = 2 ** math.ceil(math.log2(length))
    emphasised = torch.cat([sound[:1] * (1 - EMPHASIS), sound[1:] - EMPHASIS * sound[:-1]])
    side = (size - length) // 2  # torch puts the window in the middle of `size` samples
    padded = torch.nn.functional.pad(emphasised, (side, size - length - side + max(0, length - len(sound))))
    window = torch.hann_window(length, periodic=False).pow(0.85)
    spectrum = torch.stft(padded, size, hop, length, window, center=False, return_complex=True)
    energies = spectrum.abs().square().T @ filter_bank(analysis.bands, size, rate)
    return energies.clamp_min(FLOOR).log()


def differences(frames: Tensor) -> Tensor:
    """How each value changes in time, [T, bands]: sum of n (x[t + n] - x[t - n]) over n = 1, 2, divided by 10.

    Beyond its ends the first and the last frame repeat.
    """
    import torch

    times = torch.arange(len(frames))
    total = torch.zeros_like(frames)
    for n in range(1, REACH + 1):
        later, earlier = (times + n).clamp_max(len(frames) - 1), (times - n).clamp_min(0)
        total += n * (frames[later] - frames[earlier])
    return total / (2 * sum(n * n for n in range(1, REACH + 1)))


def with_differences(frames: Tensor, deltas: int) -> Tensor:
    """[T, bands] to [T, 1 + deltas, bands]: the frames, their differences, the differences of those and so on."""
    import torch

    layers = [frames]
    for _ in range(deltas):
        layers.append(differences(layers[-1]))
    return torch.stack(layers, 1)


def moments(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each value over the first dimension; one that is constant deviates by infinity."""
    import torch

    mean = frames.mean(0, dtype=torch.float64)
    deviation = (frames - mean).square().mean(0).sqrt()
    return mean.to(frames.dtype), deviation.where(deviation > 1e-6, float("inf")).to(frames.dtype)
