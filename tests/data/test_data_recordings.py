"""Shares of each speaker's recordings, normalisation by speaker and over the training frames, clips in a row."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from normtables.data import mel
from normtables.data.recordings import Recording, recordings, share
from normtables.errors import UserError

ANALYSIS = mel.Analysis(bands=6, window=16.0, hop=8.0, deltas=1)
# 3 speakers x 4 classes x 6 takes; "c" said twice as much
SPOKEN = [(s, t) for s in "abc" for t in range(4) for _ in range(12 if s == "c" else 6)]


def shared(fraction, seed=0):
    return share([t for _, t in SPOKEN], [s for s, _ in SPOKEN], fraction, seed)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 2 / 3, 1])
def test_a_share_is_that_share_of_each_speaker_with_classes_as_equal_as_can_be(fraction):
    counts = Counter(SPOKEN[i] for i in shared(fraction))
    for speaker, said in (("a", 24), ("b", 24), ("c", 48)):
        found = [counts[speaker, t] for t in range(4)]
        assert sum(found) == round(fraction * said)
        assert max(found) - min(found) <= 1


def test_smaller_shares_lie_in_larger_ones_and_the_seed_draws_them():
    sets = [set(shared(f)) for f in (0.1, 0.3, 0.5, 0.9, 1.0)]
    assert all(small < large for small, large in itertools.pairwise(sets))
    assert sets[-1] == set(range(len(SPOKEN)))
    assert shared(0.5) == sorted(shared(0.5)) == shared(0.5, 0) != shared(0.5, 1)


def test_every_speaker_keeps_a_recording():
    assert len(shared(0.001)) == 3


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, float("nan")])
def test_impossible_shares_are_refused(fraction):
    with pytest.raises(UserError, match=r"dataset\.fraction="):
        shared(fraction)


def noise(speaker, target, seed, samples=900):
    """A recording whose level and colour are its speaker's."""
    rng = np.random.default_rng(seed)
    level, colour = {"a": (100, 0.0), "b": (3000, 0.9)}[speaker]
    x = rng.normal(size=samples)
    return Recording(np.round(level * (x + colour * np.roll(x, 1))).astype(np.int16), 8000, speaker, target)


@pytest.fixture
def parts():
    train = [noise(s, t, 10 * t + (s == "b"), 800 + 50 * t) for s in "ab" for t in range(4)]
    return [train, [noise("b", 1, 90)], [noise("a", 0, 91), noise("b", 3, 92), noise("a", 2, 93)]]


def test_clips_lie_one_behind_the_other(parts):
    found = recordings(parts, 4, ANALYSIS, 1.0, 0)
    for clips, part in zip((found.train, found.valid, found.test), parts):
        assert clips.targets.tolist() == [r.target for r in part]
        frames = [1 + (len(r.sound) - 128) // 64 for r in part]
        assert clips.lengths.tolist() == frames
        assert clips.frames.shape == (sum(frames), 2, 6)
        assert clips.frames.dtype == torch.float32
    assert found.classes == 4


def test_frames_are_standardised_by_speaker_then_with_differences_over_the_training_frames(parts):
    found = recordings(parts, 4, ANALYSIS, 1.0, 0)
    expected = [by_hand(part) for part in parts]
    mean, deviation = expected[0].mean(0), expected[0].std(0)
    for clips, frames in zip((found.train, found.valid, found.test), expected):
        np.testing.assert_allclose(clips.frames, (frames - mean) / deviation, atol=1e-4)
    assert abs(expected[2].mean(0) - mean).max() > 1e-3, "the test split would look different by its own moments"


def by_hand(part):
    """Frames with differences before the last standardisation, in float64."""
    statics = [mel.log_mel(torch.tensor(r.sound).float(), r.rate, ANALYSIS).double().numpy() for r in part]
    for speaker in {r.speaker for r in part}:
        own = [i for i, r in enumerate(part) if r.speaker == speaker]
        spoken = np.concatenate([statics[i] for i in own])
        for i in own:
            statics[i] = (statics[i] - spoken.mean(0)) / spoken.std(0)
    return np.concatenate([mel.with_differences(torch.from_numpy(s), 1).numpy() for s in statics])


def test_a_fraction_leaves_the_other_splits_alone_but_for_the_training_moments(parts):
    whole, half = (recordings(parts, 4, ANALYSIS, f, 0) for f in (1.0, 0.5))
    assert len(half.train.lengths) == 4
    assert torch.equal(whole.test.lengths, half.test.lengths)
    ratio = (whole.test.frames - whole.test.frames.mean(0)) / (half.test.frames - half.test.frames.mean(0))
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=1e-3)


def test_an_empty_split_is_refused(parts):
    with pytest.raises(UserError, match="a split has no recordings"):
        recordings([parts[0], [], parts[2]], 4, ANALYSIS, 1.0, 0)
