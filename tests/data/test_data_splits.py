"""Drawing by seed: sizes, proportions, disjointness, determinism."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normtables.data import splits
from normtables.errors import UserError

LABELS = np.repeat([0, 1, 2], [50, 30, 10])


def test_last_holds_out_the_end():
    kept, held = splits.last(10, 3)
    assert kept.tolist() == list(range(7))
    assert held.tolist() == [7, 8, 9]


def test_drawn_splits_everything_once_and_by_the_seed():
    kept, held = splits.drawn(100, 30, "valid", splits.generator(1))
    assert sorted([*kept, *held]) == list(range(100))
    assert (np.diff(kept) > 0).all()
    assert len(held) == 30
    assert held.tolist() == splits.drawn(100, 30, "valid", splits.generator(1))[1].tolist()
    assert held.tolist() != splits.drawn(100, 30, "valid", splits.generator(2))[1].tolist()


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.data(), st.integers(0, 2**32 - 1))
def test_stratified_keeps_proportions(counts, data, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = data.draw(st.integers(1, len(labels) - 1))
    kept, held = splits.stratified(labels, size, "valid", splits.generator(seed))
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert len(held) == size
    exact = np.array(counts) * size / len(labels)
    assert (abs(np.bincount(labels[held], minlength=len(counts)) - exact) < 1).all()


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.data())
def test_balanced_is_as_even_as_the_classes_allow(counts, data):
    labels = np.repeat(np.arange(len(counts)), counts)
    size = data.draw(st.integers(1, len(labels)))
    shares = np.bincount(labels[splits.balanced(labels, size, splits.generator(0))], minlength=len(counts))
    assert shares.sum() == size
    unspent = shares < np.array(counts)
    assert all(shares[c] >= shares.max() - 1 for c in np.flatnonzero(unspent))


def test_balanced_subsets_of_one_seed_are_nested():
    draws = [set(splits.balanced(LABELS, n, splits.generator(3)).tolist()) for n in range(1, 91)]
    assert all(a < b for a, b in pairwise(draws))


def test_the_seed_means_the_same_for_ever():
    """Recorded draws: a change here changes every committed number that rests on a drawn split."""
    assert splits.drawn(10, 4, "valid", splits.generator(0))[1].tolist() == [2, 4, 8, 9]
    assert splits.balanced(LABELS, 4, splits.generator(0)).tolist() == [11, 28, 75, 81]


@pytest.mark.parametrize("size", [0, -1, 90, 91])
def test_a_split_of_everything_or_nothing_is_refused(size):
    for draw in (
        lambda: splits.last(90, size),
        lambda: splits.drawn(90, size, "valid", splits.generator(0)),
        lambda: splits.stratified(LABELS, size, "valid", splits.generator(0)),
    ):
        with pytest.raises(UserError, match=rf"^dataset.valid={size} should lie between 1 and 89"):
            draw()


@pytest.mark.parametrize("size", [0, 91])
def test_a_subset_must_exist(size):
    with pytest.raises(UserError, match=f"^dataset.train={size} should lie between 1 and 90"):
        splits.balanced(LABELS, size, splits.generator(0))
