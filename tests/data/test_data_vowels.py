"""Synthesised vowels: always the same sounds, pulses at the pitch, resonances at the formants, speakers apart."""

import numpy as np
import pytest
import torch

from normtables.data import load, vowels

SMALL = {"bands": 8, "deltas": 0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return load({"name": "vowels", **SMALL}, tmp_path_factory.mktemp("nowhere"), 0)


def test_ten_vowels_by_speakers_of_their_own(whole):
    for split, speakers in ((whole.train, 8), (whole.valid, 2), (whole.test, 2)):
        assert split.targets.bincount().tolist() == [speakers * 20] * 10
        assert split.frames.shape == (split.lengths.sum(), 1, 8)
        assert split.lengths.min() >= 1 + (1200 - 200) // 80
        assert split.lengths.max() <= 1 + (2400 - 200) // 80
    assert whole.classes == 10
    assert not set(vowels.VALID) & set(vowels.TEST)


def test_the_sounds_are_always_the_same_and_the_seed_draws_the_fraction(whole, tmp_path):
    again = load({"name": "vowels", **SMALL}, tmp_path, 1)
    assert torch.equal(again.train.frames, whole.train.frames)
    halves = [load({"name": "vowels", "fraction": 0.5, **SMALL}, tmp_path, seed).train for seed in (0, 1)]
    assert [half.targets.bincount().tolist() for half in halves] == [[80] * 10] * 2
    assert halves[0].lengths.tolist() != halves[1].lengths.tolist()


def test_resonators_have_klatts_response():
    """|H| of each resonator in closed form, and the peaks at the formants."""
    impulse = np.zeros(4096)
    impulse[0] = 1
    formants = np.array([500.0, 1500.0, 2500.0])
    found = abs(np.fft.rfft(vowels.resonated(impulse, formants)))
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(4096))
    expected = np.ones(len(z))
    for centre, width in zip(formants, (60, 90, 150)):
        r, angle = np.exp(-np.pi * width / 8000), 2 * np.pi * centre / 8000
        poles = (1 - r * np.exp(1j * angle) * z) * (1 - r * np.exp(-1j * angle) * z)
        expected = expected * abs((1 - 2 * r * np.cos(angle) + r * r) / poles)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    peaks = np.flatnonzero((found[1:-1] > found[:-2]) & (found[1:-1] > found[2:])) + 1
    np.testing.assert_allclose(peaks * 8000 / 4096, formants, atol=30)


def test_the_voice_pulses_at_its_pitch():
    source = vowels.buzz(8000, 200.0, np.random.RandomState(0))
    pulses = np.flatnonzero(np.append(source[0], source[1:] - 0.95 * source[:-1]) > 0.5)
    assert len(pulses) == pytest.approx(200 * 0.95, abs=2)
    gaps = np.diff(pulses)
    assert gaps[:10].mean() == pytest.approx(40, abs=1)
    assert gaps[-10:].mean() == pytest.approx(8000 / 180, abs=1)


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_a_sound_is_a_short_vowel_of_16_bits(size):
    rng = np.random.RandomState(3)
    for _ in range(5):
        found = vowels.sound(np.array([730, 1090, 2440]), size, rng)
        assert found.dtype == np.int16
        assert 1200 <= len(found) <= 2400
        assert abs(found).max() == 8000


def test_speakers_differ_in_formants_and_pitch(monkeypatch):
    """Formants times 0.9 to 1.25, pitch 100 to 280 Hz, on average over takes; the three formants move apart too."""
    asked = {"formants": [], "pitch": []}

    def buzz(samples, pitch, rng):
        asked["pitch"].append(pitch)
        return np.ones(samples)

    def resonated(source, formants):
        asked["formants"].append(formants)
        return source

    monkeypatch.setattr(vowels, "buzz", buzz)
    monkeypatch.setattr(vowels, "resonated", resonated)
    for size, scale, pitch in ((0.0, 0.9, 100), (1.0, 1.25, 280), (0.5, 1.075, 100 * 2.8**0.5)):
        asked["formants"].clear()
        asked["pitch"].clear()
        rng = np.random.RandomState(5)
        for _ in range(400):
            vowels.sound(np.array([300, 870, 2240]), size, rng)
        found = np.log(np.array(asked["formants"]) / [300, 870, 2240])
        np.testing.assert_allclose(np.exp(found.mean(0)), scale, rtol=0.01)
        np.testing.assert_allclose(found.std(0), 0.05, rtol=0.15)
        assert abs(np.corrcoef(found.T)[0, 1]) < 0.2
        assert np.exp(np.log(asked["pitch"]).mean()) == pytest.approx(pitch, rel=0.02)
