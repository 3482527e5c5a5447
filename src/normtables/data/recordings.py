"""Recordings of known speakers to the three splits: a share of each speaker's, features, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from normtables.data import Clips, Recordings, mel, splits
from normtables.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Recording:
    """What was said, by whom, and how it sounds: 16-bit numbers [samples], `rate` a second."""

    sound: NDArray[Any]
    rate: int
    speaker: str
    target: int


def share(targets: Sequence[int], speakers: Sequence[str], fraction: float, seed: int) -> list[int]:
    """Indices of `fraction` of each speaker's recordings, classes as equal as they can be, drawn by the seed.

    One seed's draws are nested: what a fraction holds, a larger one holds too. Raises UserError for a fraction that is
    not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"dataset.fraction={fraction}: a number above 0, at most 1")
    order = splits.generator(seed).permutation(len(targets))
    seen: dict[tuple[str, int], int] = {}
    queues: dict[str, list[tuple[int, int, int]]] = {}
    for place, i in enumerate(order):
        key = (speakers[i], targets[i])
        seen[key] = seen.get(key, 0) + 1
        queues.setdefault(speakers[i], []).append((seen[key], place, int(i)))
    kept = [sorted(queue)[: max(1, round(fraction * len(queue)))] for queue in queues.values()]
    return sorted(i for queue in kept for _, _, i in queue)


def recordings(
    parts: Sequence[Sequence[Recording]], classes: int, analysis: mel.Analysis, fraction: float, seed: int
) -> Recordings:
    """The splits of training, validation and test recordings; `fraction` of the training ones are kept.

    Log-mel frames are standardised for each speaker of a split, then with their differences in time over the training
    frames, as in Kaldi's recipe for its nnet1.
    """
    train = parts[0]
    chosen = share([r.target for r in train], [r.speaker for r in train], fraction, seed)
    parts = [[train[i] for i in chosen], *parts[1:]]
    if not all(parts):
        raise UserError("a split has no recordings; choose other splits")
    kept, valid, test = (_clips(part, analysis) for part in parts)
    mean, deviation = mel.moments(kept.frames)
    for clips in (kept, valid, test):
        clips.frames.sub_(mean).div_(deviation)
    return Recordings(kept, valid, test, classes)


def _clips(part: Sequence[Recording], analysis: mel.Analysis) -> Clips:
    """The recordings' frames, standardised for each speaker, with their differences in time."""
    import torch  # here, so that listing data sets stays free of torch

    statics = [mel.log_mel(torch.from_numpy(r.sound.astype(np.float32)), r.rate, analysis) for r in part]
    by_speaker: dict[str, list[Tensor]] = {}
    for recording, frames in zip(part, statics):
        by_speaker.setdefault(recording.speaker, []).append(frames)
    for spoken in by_speaker.values():
        mean, deviation = mel.moments(torch.cat(spoken))
        for frames in spoken:
            frames.sub_(mean).div_(deviation)
    return Clips(
        torch.cat([mel.with_differences(frames, analysis.deltas) for frames in statics]),
        torch.tensor([len(frames) for frames in statics]),
        torch.tensor([recording.target for recording in part]),
    )
