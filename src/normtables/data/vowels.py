"""Synthesised vowels: a buzzing source through resonances (formants), several speakers, noise. Embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Recordings, splits
from normtables.data.mel import Analysis
from normtables.data.recordings import Recording, recordings

Doubles = NDArray[np.float64]

RATE = 8_000  # Hz
# The first three formants (Hz) of ten vowels, means over men: Peterson & Barney 1952, table II.
FORMANTS = {
    "heed": (270, 2290, 3010),
    "hid": (390, 1990, 2550),
    "head": (530, 1840, 2480),
    "had": (660, 1720, 2410),
    "hod": (730, 1090, 2440),
    "hawed": (570, 840, 2410),
    "hood": (440, 1020, 2240),
    "who'd": (300, 870, 2240),
    "hud": (640, 1190, 2390),
    "heard": (490, 1350, 1690),
}
BANDWIDTHS = (60, 90, 150)  # Hz, of the three resonances
SPEAKERS = 12  # vocal tracts from long to short: formants times 0.9 to 1.25, pitch 100 to 280 Hz
TAKES = 20  # of each vowel by each speaker
VALID, TEST = (5, 10), (2, 8)  # the speakers held out
SEED = 1952  # of the synthesis: the sounds are always the same


@DATASETS.register("vowels", version=1)
def vowels(
    root: Path,
    seed: int,
    *,
    fraction: float = 1.0,
    bands: int = 40,
    window: float = 25.0,
    hop: float = 10.0,
    deltas: int = 2,
) -> Recordings:
    """2,400 vowels of 0.15-0.3 s at 8 kHz: ten, by twelve synthetic speakers, 20 times each, in noise.

    Two speakers are for validation, two others for test; `seed` draws the `fraction` of the eight others kept for
    training.
    """
    analysis, rng = Analysis(bands, window, hop, deltas), splits.generator(SEED)
    parts: tuple[list[Recording], ...] = ([], [], [])
    for speaker in range(SPEAKERS):
        part = parts[2 if speaker in TEST else 1 if speaker in VALID else 0]
        for target, formants in enumerate(FORMANTS.values()):
            sounds = (sound(np.array(formants), speaker / (SPEAKERS - 1), rng) for _ in range(TAKES))
            part += [Recording(samples, RATE, str(speaker), target) for samples in sounds]
    return recordings(parts, len(FORMANTS), analysis, fraction, seed)


def sound(formants: NDArray[Any], size: float, rng: np.random.RandomState) -> NDArray[np.int16]:
    """One vowel by the speaker of `size` 0 (long vocal tract) to 1 (short), 16-bit numbers [samples].

    Each take draws its length, pitch (10 %), formants (5 %) and signal-to-noise ratio (0 to 20 dB).
    """
    samples = int(RATE * rng.uniform(0.15, 0.3))
    pitch = 100 * 2.8**size * np.exp(0.1 * rng.standard_normal())
    shifted = formants * (0.9 + 0.35 * size) * np.exp(0.05 * rng.standard_normal(3))
    voice = resonated(buzz(samples, pitch, rng), shifted)
    voice *= np.minimum(1, np.minimum(np.arange(samples), np.arange(samples)[::-1]) / (0.02 * RATE))  # 20 ms on and off
    noise = rng.standard_normal(samples) * np.sqrt(np.mean(voice**2) / 10 ** rng.uniform(0, 2))
    mixed = voice + noise
    return np.round(8_000 * mixed / np.abs(mixed).max()).astype(np.int16)


def buzz(samples: int, pitch: float, rng: np.random.RandomState) -> Doubles:
    """The voice's source as it leaves the lips: pulses, falling in pitch by a tenth, 6 dB weaker an octave."""
    from scipy.signal import lfilter  # here, so that listing data sets stays quick

    rates = pitch * np.linspace(1, 0.9, samples) * (1 + 0.02 * rng.standard_normal(samples))
    pulses = np.diff(np.floor(np.cumsum(rates) / RATE), prepend=0)
    return np.asarray(lfilter([1], [1, -0.95], pulses))


def resonated(source: Doubles, formants: Doubles) -> Doubles:
    """The source through resonators in a row (Klatt 1980, equations 1 and 2), gain 1 at 0 Hz."""
    from scipy.signal import lfilter

    for centre, width in zip(formants, BANDWIDTHS):
        c = -np.exp(-2 * np.pi * width / RATE)
        b = 2 * np.exp(-np.pi * width / RATE) * np.cos(2 * np.pi * min(centre, 0.475 * RATE) / RATE)
        source = np.asarray(lfilter([1 - b - c], [1, -b, -c], source))
    return source
