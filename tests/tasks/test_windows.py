"""Windows of recordings: which frames they hold, the order, scores of windows and of recordings by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from normtables.data import Clips, Recordings
from normtables.errors import UserError
from normtables.tasks import TASKS, windows

LENGTHS = [3, 1, 6, 2, 4]


def clips(lengths, seed, classes=3, start=0):
    """Frames [T, 2, 4] whose first value is their number."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(sum(lengths), 2, 4, generator=generator)
    frames[:, 0, 0] = torch.arange(start, start + len(frames))
    return Clips(frames, torch.tensor(lengths), torch.arange(len(lengths)) % classes)


@pytest.fixture
def data():
    return Recordings(clips(LENGTHS, 0), clips([5, 2], 1), clips([4, 1, 3, 7, 2, 2, 5], 2), 3)


def build(data, batch_size=4, seed=0, context=2):
    return TASKS.build({"name": "windows", "version": 1, "context": context}, data, batch_size, seed)


def by_hand(clips, context):
    """All windows [T, 2, 2 context + 1, 4] and their targets, clip by clip."""
    found, targets = [], []
    for frames, target in zip(clips.frames.split(clips.lengths.tolist()), clips.targets.tolist()):
        padded = torch.cat([frames[:1]] * context + [frames] + [frames[-1:]] * context)
        for t in range(len(frames)):
            found.append(padded[t : t + 2 * context + 1].transpose(0, 1))
            targets.append(target)
    return torch.stack(found), torch.tensor(targets)


def test_what_a_model_and_a_duration_must_know(data):
    task = build(data)
    assert task.sizes == {"inputs": (2, 5, 4), "outputs": 3}
    assert task.clock == {"step": 1, "epoch": 4}
    assert (task.score, task.better) == ("test/error", "lower")
    assert build(data, context=0).sizes["inputs"] == (2, 1, 4)


def test_chance_is_the_commonest_class_of_the_test_recordings(data):
    assert build(data).chance == pytest.approx(100 * (1 - 3 / 7))


@pytest.mark.parametrize("context", [0, 1, 2, 7])
def test_a_window_stays_inside_its_recording(data, context):
    expected, targets = by_hand(data.train, context)
    split = windows.Spliced(data.train, context)
    everything = torch.arange(16)
    assert torch.equal(split.windows(everything), expected)
    assert torch.equal(split.targets(everything), targets)
    shuffled = torch.tensor([9, 0, 15, 9, 3])
    assert torch.equal(split.windows(shuffled), expected[shuffled])
    assert torch.equal(split.targets(shuffled), targets[shuffled])


def test_an_epoch_shows_every_window_once_and_its_recordings_class(data):
    task = build(data)
    expected, targets = by_hand(data.train, 2)
    stream, seen = task.batches(None, 0), []
    for _ in range(4):
        inputs, found = next(stream)
        centres = inputs[:, 0, 2, 0].long()
        assert torch.equal(inputs, expected[centres])
        assert torch.equal(found, targets[centres])
        seen += centres.tolist()
    assert sorted(seen) == list(range(16))
    assert seen != sorted(seen)
    later = [int(i) for _ in range(4) for i in next(stream)[0][:, 0, 2, 0]]
    assert sorted(later) == list(range(16))
    assert later != seen


@pytest.mark.parametrize("step", [1, 4, 6, 9])
def test_the_stream_goes_on_anywhere(data, step):
    whole, rest = build(data).batches(None, 0), build(data).batches(None, step)
    for _ in range(step):
        next(whole)
    for _ in range(5):
        assert torch.equal(next(whole)[0], next(rest)[0])


def test_the_order_is_the_seeds_alone(data):
    before = torch.get_rng_state()
    one, again, other = (next(build(data, seed=s).batches(None, 0))[0] for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def model():
    torch.manual_seed(4)
    return nn.Sequential(nn.Flatten(), nn.Linear(40, 3))


def log_posteriors(model, inputs):
    z = model(inputs).detach().double().numpy()
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def test_the_loss_is_the_mean_cross_entropy_of_the_windows(data, model):
    inputs, targets = by_hand(data.train, 2)
    loss = build(data).loss(model, (inputs, targets))
    assert loss.item() == pytest.approx(-np.mean(log_posteriors(model, inputs)[np.arange(16), targets]), rel=1e-5)
    assert loss.requires_grad


@pytest.mark.parametrize("values", [1, 100, 10**6])
def test_scores_by_hand_however_the_split_is_cut(data, model, monkeypatch, values):
    monkeypatch.setattr(windows, "EVALUATED", values)
    with torch.no_grad():
        model[1].weight[:, 18] = 0  # not the frame's number
        scores = build(data).evaluate(model)
    names = ["loss", "error", "window_error"]
    assert list(scores) == [f"{split}/{name}" for split in ("valid", "test") for name in names]
    for name in ("valid", "test"):
        part = getattr(data, name)
        inputs, targets = by_hand(part, 2)
        logs = log_posteriors(model, inputs)
        assert scores[f"{name}/loss"] == pytest.approx(-np.mean(logs[np.arange(len(targets)), targets]), rel=1e-5)
        assert scores[f"{name}/window_error"] == pytest.approx(100 * np.mean(logs.argmax(1) != targets.numpy()))
        ends = np.cumsum(part.lengths.numpy())
        sums = [logs[end - n : end].sum(0) for end, n in zip(ends, part.lengths)]
        assert scores[f"{name}/error"] == pytest.approx(100 * np.mean(np.argmax(sums, 1) != part.targets.numpy()))


def test_a_recordings_class_is_the_sum_of_logarithms_and_no_vote():
    """Two windows lean towards class 0, one more towards class 1: 0.49 * 0.15 < 0.09 * 0.85, though 1.55 > 1.45."""
    frames = torch.log(torch.tensor([[0.7, 0.3], [0.7, 0.3], [0.15, 0.85]]))[:, None]
    one = Clips(frames, torch.tensor([3]), torch.tensor([1]))
    scores = build(Recordings(one, one, one, 2), 1, context=0).evaluate(nn.Flatten())
    assert scores["test/error"] == 0
    assert scores["test/window_error"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"batch_size": 17}, "batch_size=17: the training set has 16 windows"), ({"context": -1}, "context=-1")],
)
def test_impossible_settings_are_refused(data, options, says):
    with pytest.raises(UserError, match=says):
        build(data, **options)
