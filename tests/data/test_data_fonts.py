"""Printed digits: every class in every font, the same pictures whenever and at whatever size they are drawn."""

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier

from normtables.data import fonts, load


def test_three_sizes_of_the_same_pictures():
    sets = {size: load({"name": "digit_fonts", "size": size}, "nowhere", 0) for size in (8, 16, 32)}
    for name, count in (("train", 1200), ("valid", 300), ("test", 300)):
        large = getattr(sets[32], name)
        assert large.inputs.shape == (count, 1, 32, 32)
        assert large.targets.bincount().tolist() == [count // 10] * 10
        for size in (8, 16):
            small = getattr(sets[size], name)
            expected = torch.nn.functional.avg_pool2d(large.inputs, 32 // size)
            assert torch.allclose(small.inputs, expected, atol=1e-6)
            assert torch.equal(small.targets, large.targets)
    assert large.inputs.min() >= 0
    assert 0.9 < large.inputs.max() <= 1


def test_the_pictures_are_drawn_by_a_seed_of_their_own_the_splits_by_the_data_seed():
    pictures, labels = fonts.drawn()
    fonts.drawn.cache_clear()
    again, _ = fonts.drawn()
    assert np.array_equal(pictures, again)
    assert len({picture.tobytes() for picture in pictures}) == fonts.IMAGES
    assert np.bincount(labels).tolist() == [180] * 10
    first, other = (load({"name": "digit_fonts"}, "nowhere", seed) for seed in (0, 1))
    assert not torch.equal(first.test.inputs, other.test.inputs)
    found = torch.cat([first.train.inputs, first.valid.inputs, first.test.inputs]).sum().item()
    assert np.isclose(found, pictures.sum(dtype=float) / 64, rtol=1e-5)


def test_glyphs_fill_the_same_height_and_differ_between_fonts_and_digits():
    seen = set()
    for font in fonts.FONTS:
        for digit in range(10):
            glyph = fonts.glyph(font, digit)
            rows = np.flatnonzero(glyph.any(1))
            assert (rows[0], rows[-1]) == ((64 - 52) // 2, (64 + 52) // 2 - 1)
            assert 0 <= glyph.min() < glyph.max() <= 1
            seen.add(glyph.tobytes())
    assert len(seen) > 0.95 * 10 * len(fonts.FONTS)  # two fonts may share a digit


def test_the_unmoved_matrix_leaves_a_picture_as_it_is(monkeypatch):
    class Centre:
        def uniform(self, low, high, shape):
            return np.zeros(shape)

    assert np.allclose(fonts.jitter(Centre())[0], [[1, 0, 0], [0, 1, 0]])


def test_the_task_is_neither_trivial_nor_hopeless():
    """Nearest neighbours: a few percent of errors, as on the handwritten ones."""
    found = load({"name": "digit_fonts"}, "nowhere", 0)
    model = KNeighborsClassifier(1).fit(found.train.inputs.flatten(1), found.train.targets)
    error = 1 - model.score(found.test.inputs.flatten(1), found.test.targets)
    assert 0 < error < 0.2
