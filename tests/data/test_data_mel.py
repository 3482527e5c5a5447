"""Log-mel frames against sums written out in float64, differences in time, moments."""

import math

import numpy as np
import pytest
import torch

from normtables.data.mel import Analysis, differences, filter_bank, log_mel, mel, moments, with_differences
from normtables.errors import UserError

PLAIN = Analysis(bands=23, window=25.0, hop=10.0, deltas=0)


def triangle(band, frequency, bands, rate):
    """One weight of the bank: rising over one step of the mel scale from 20 Hz on, falling over the next."""
    low, high = (1127 * math.log(1 + f / 700) for f in (20, rate / 2))
    step = (high - low) / (bands + 1)
    distance = abs(1127 * math.log(1 + frequency / 700) - (low + (band + 1) * step))
    return max(0.0, 1 - distance / step)


@pytest.mark.parametrize(("bands", "size", "rate"), [(40, 256, 8000), (23, 512, 16000), (5, 64, 8000)])
def test_filters_are_triangles_of_equal_width_on_the_mel_scale(bands, size, rate):
    expected = [[triangle(b, k * rate / size, bands, rate) for b in range(bands)] for k in range(size // 2 + 1)]
    np.testing.assert_allclose(filter_bank(bands, size, rate).numpy(), expected, atol=1e-6)


def test_neighbouring_filters_share_each_frequency_between_the_first_peak_and_the_last():
    weights = filter_bank(40, 256, 8000).double()
    peaks = [k for k in range(129) if mel(20) + 60 < mel(k * 8000 / 256) < mel(4000) - 60]
    assert len(peaks) > 100
    torch.testing.assert_close(weights[peaks].sum(1), torch.ones(len(peaks), dtype=torch.float64))


def test_the_mel_scale():
    assert mel(0) == 0
    assert mel(1000) == pytest.approx(999.99, abs=0.01)


def by_hand(sound, rate, analysis):
    """The same in float64: frame by frame, a discrete Fourier transform as a matrix, loops over filters."""
    length, hop = int(rate * analysis.window / 1000), int(rate * analysis.hop / 1000)
    size = 1
    while size < length:
        size *= 2
    x = np.array([v - 0.97 * sound[max(t - 1, 0)] for t, v in enumerate(sound)], np.float64)
    if len(x) < length:
        x = np.pad(x, (0, length - len(x)))
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85
    waves = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(length)) / size)
    rows = []
    for start in range(0, len(x) - length + 1, hop):
        power = abs(waves @ (x[start : start + length] * window)) ** 2
        bands = range(analysis.bands)
        sums = [sum(p * triangle(b, k * rate / size, analysis.bands, rate) for k, p in enumerate(power)) for b in bands]
        rows.append([math.log(max(s, 1.1920929e-07)) for s in sums])
    return np.array(rows)


@pytest.mark.parametrize(
    ("samples", "rate", "frames"), [(1000, 8000, 11), (279, 8000, 1), (280, 8000, 2), (60, 8000, 1), (900, 16000, 4)]
)
def test_log_mel_against_sums_written_out(samples, rate, frames):
    rng = np.random.default_rng(samples)
    sound = np.round(3000 * np.sin(np.arange(samples) * 0.3) + 200 * rng.normal(size=samples))
    found = log_mel(torch.from_numpy(sound).float(), rate, PLAIN)
    assert found.shape == (frames, 23)
    np.testing.assert_allclose(found.numpy(), by_hand(sound, rate, PLAIN), atol=2e-3)


def test_window_and_hop_are_in_milliseconds():
    sound = torch.randn(2000).mul(1000).round()
    for analysis in (Analysis(10, 32.0, 16.0, 0), Analysis(10, 20.0, 5.0, 0)):
        np.testing.assert_allclose(log_mel(sound, 8000, analysis), by_hand(sound.numpy(), 8000, analysis), atol=2e-3)


def test_silence_has_the_floors_logarithm():
    assert (log_mel(torch.zeros(400), 8000, PLAIN) == math.log(1.1920929e-07)).all()


def test_differences_in_time_by_hand():
    frames = torch.randn(7, 3, dtype=torch.float64)
    at = lambda t: frames[min(max(t, 0), 6)]  # noqa: E731
    expected = torch.stack([(at(t + 1) - at(t - 1) + 2 * (at(t + 2) - at(t - 2))) / (2 * (1 + 4)) for t in range(7)])
    torch.testing.assert_close(differences(frames), expected)


def test_a_straight_line_has_its_slope_and_no_second_difference():
    line = 3 * torch.arange(12.0)[:, None]
    whole = with_differences(line, 2)
    assert whole.shape == (12, 3, 1)
    torch.testing.assert_close(whole[:, 0], line)
    torch.testing.assert_close(whole[2:-2, 1], torch.full((8, 1), 3.0))
    torch.testing.assert_close(whole[4:-4, 2], torch.zeros(4, 1))


@pytest.mark.parametrize("deltas", [0, 1, 3])
def test_as_many_differences_as_asked_for(deltas):
    frames = torch.randn(5, 4)
    whole = with_differences(frames, deltas)
    assert whole.shape == (5, 1 + deltas, 4)
    for order in range(deltas):
        torch.testing.assert_close(whole[:, order + 1], differences(whole[:, order]))


def test_moments_of_each_value_and_a_constant_one():
    frames = torch.randn(50, 2, 3) * 4 + 100
    frames[:, 1, 2] = 7
    mean, deviation = moments(frames)
    scaled = (frames - mean) / deviation
    expected = frames.double().numpy()
    np.testing.assert_allclose(mean, expected.mean(0), rtol=1e-6)
    assert deviation[1, 2] == math.inf
    assert (scaled[:, 1, 2] == 0).all()
    np.testing.assert_allclose(deviation[0], expected.std(0)[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bands": 0}, "bands=0: a number above 0"),
        ({"window": -1.0}, "window=-1.0: a number above 0"),
        ({"hop": 0.0}, "hop=0.0: a number above 0"),
        ({"deltas": -1}, "deltas=-1: from 0 to 3"),
        ({"deltas": 4}, "deltas=4: from 0 to 3"),
    ],
)
def test_impossible_analyses_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        Analysis(**{"bands": 40, "window": 25.0, "hop": 10.0, "deltas": 2, **options})


def test_more_filters_than_frequencies_are_refused():
    with pytest.raises(UserError, match=r"dataset\.bands=200: too many"):
        filter_bank(200, 256, 8000)
