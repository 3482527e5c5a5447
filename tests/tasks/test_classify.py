"""Classification: order of the examples, loss, scores and chance against counts by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from normtables.data import Dataset, Split
from normtables.errors import UserError
from normtables.tasks import TASKS, classify


def split(n, seed, classes=3):
    generator = torch.Generator().manual_seed(seed)
    return Split(torch.randn(n, 4, generator=generator), torch.randint(0, classes, (n,), generator=generator))


@pytest.fixture
def data():
    train = Split(torch.arange(23.0)[:, None].repeat(1, 4), torch.arange(23) % 3)
    return Dataset(train, split(17, 1), Split(split(20, 2).inputs, torch.tensor([2] * 9 + [0] * 6 + [1] * 5)), 3)


def build(data, batch_size=5, seed=0, **options):
    return TASKS.build({"name": "classify", "version": 1, **options}, data, batch_size, seed)


def drawn(task, n, step=0):
    """Which examples the next n batches hold; inputs and targets must belong together."""
    stream, rows = task.batches(None, step), []
    for _ in range(n):
        inputs, targets = next(stream)
        rows.append([int(i) for i in inputs[:, 0]])
        assert [i % 3 for i in rows[-1]] == targets.tolist()
        assert inputs.shape == (5, 4)
    return rows


def test_what_a_model_and_a_duration_must_know(data):
    task = build(data)
    assert task.sizes == {"inputs": (4,), "outputs": 3}
    assert task.clock == {"step": 1, "epoch": 4}
    assert (task.score, task.better) == ("test/error", "lower")


def test_chance_is_the_commonest_class_of_the_test_set(data):
    assert build(data).chance == pytest.approx(100 * 11 / 20)


def test_an_epoch_shows_no_example_twice_and_leaves_the_incomplete_batch_out(data):
    rows = drawn(build(data), 8)
    for epoch in (rows[:4], rows[4:]):
        assert len({i for batch in epoch for i in batch}) == 20
    assert rows[:4] != rows[4:], "each epoch has its own order"
    assert sorted(i for batch in rows[:4] for i in batch) != list(range(20)), "and the ones left out change"


@pytest.mark.parametrize("step", [1, 3, 4, 6, 9])
def test_the_stream_goes_on_anywhere(data, step):
    assert drawn(build(data), 4, step) == drawn(build(data), 4 + step)[step:]


def test_the_order_is_the_seeds_alone(data):
    torch.manual_seed(1)
    first = drawn(build(data, seed=1), 6)
    torch.manual_seed(2)
    torch.rand(3)
    assert drawn(build(data, seed=1), 6) == first
    assert drawn(build(data, seed=2), 6) != first
    before = torch.get_rng_state()
    drawn(build(data), 6)
    assert torch.equal(torch.get_rng_state(), before), "drawing an order leaves dropout's source alone"


def test_the_loss_is_the_mean_cross_entropy_and_changes_nothing(data):
    model = nn.Linear(4, 3).double()
    inputs, targets = split(6, 3).inputs.double(), split(6, 3).targets
    state = torch.get_rng_state()
    loss = build(data).loss(model, (inputs, targets))
    z = (inputs @ model.weight.T + model.bias).detach().numpy()
    expected = np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(6), targets])
    assert loss.item() == pytest.approx(expected)
    assert loss.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("chunk", [1, 3, 17, 1000])
def test_scores_by_hand_however_the_split_is_cut(data, monkeypatch, chunk):
    monkeypatch.setattr(classify, "EVALUATED", chunk)
    model = nn.Linear(4, 3).eval()
    scores = build(data).evaluate(model)
    assert list(scores) == [f"{split}/{name}" for split in ("valid", "test") for name in ("loss", "error", "accuracy")]
    for name in ("valid", "test"):
        part = getattr(data, name)
        z = (part.inputs @ model.weight.T + model.bias).detach().double().numpy()
        t = part.targets.numpy()
        assert scores[f"{name}/error"] == pytest.approx(100 * np.mean(z.argmax(1) != t))
        assert scores[f"{name}/accuracy"] == pytest.approx(100 * np.mean(z.argmax(1) == t))
        assert scores[f"{name}/loss"] == pytest.approx(
            np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(t)), t]), rel=1e-5
        )


def test_big_inputs_are_evaluated_few_at_a_time(data, monkeypatch):
    monkeypatch.setattr(classify, "EVALUATED_VALUES", 9)
    seen = []
    model = nn.Linear(4, 3)
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    build(data).evaluate(model)
    assert max(seen) == 2
    assert sum(seen) == 37


@pytest.mark.parametrize("size", [24, 1000])
def test_a_batch_larger_than_the_training_set_is_refused(data, size):
    with pytest.raises(UserError, match=f"batch_size={size}: the training set has 23"):
        build(data, batch_size=size)
    assert build(data, batch_size=23).clock["epoch"] == 1


def test_batches_of_one_class_in_random_order():
    """20 of class 2, 12 of class 0, 11 of class 1 in batches of 5: one batch at each border may hold two."""
    targets = torch.tensor([2] * 20 + [0] * 12 + [1] * 11)
    train = Split(torch.arange(43.0)[:, None].repeat(1, 4), targets)
    task = build(Dataset(train, split(5, 1), split(5, 2), 3), batches="by_class")
    stream, left_out, first = task.batches(None, 0), set(), []
    for _ in range(40):
        rows = [next(stream) for _ in range(task.clock["epoch"])]
        assert sum(len(set(t.tolist())) > 1 for _, t in rows) <= 2
        seen = [int(i) for inputs, _ in rows for i in inputs[:, 0]]
        assert len(set(seen)) == 40
        assert all(targets[int(i)] == t for inputs, found in rows for i, t in zip(inputs[:, 0], found))
        left_out |= set(range(43)) - set(seen)
        first.append(int(rows[0][1][0]))
    assert len(set(first)) == 3, "the batches come in random order"
    assert {int(targets[i]) for i in left_out} == {0, 2}, "what is left out is not always of the last class"
    assert len(left_out) > 10, "and changes"
    again, later = task.batches(None, 3), task.batches(None, 0)
    assert torch.equal(next(again)[0], [next(later) for _ in range(4)][3][0])


def test_gap_between_the_modes_by_hand(data):
    """A batch-normalised layer: training mode centres and scales by the batch, test mode by mean 0 and variance 1."""
    layer = nn.BatchNorm1d(4, eps=1e-12, momentum=0.5).double().eval()
    plain = Dataset(split(23, 5), data.valid, data.test, 3)
    task = build(Dataset(Split(plain.train.inputs.double(), plain.train.targets), data.valid, data.test, 3), gap=2)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    found = task_gap(task, layer)
    stream = task.batches(None, 0)
    xs = [next(stream)[0].numpy() for _ in range(2)]
    trained = np.concatenate([(x - x.mean(0)) / x.std(0) for x in xs])
    evaluated = np.concatenate(xs)
    expected = np.sqrt(((trained - evaluated) ** 2).sum() / ((evaluated - evaluated.mean(0)) ** 2).sum())
    assert found == pytest.approx(100 * expected)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())
    assert not layer.training


def task_gap(task, model):
    with torch.no_grad():
        return classify.gap(model, (next(stream) for stream in [task.batches(model, 0)] for _ in range(task.gap)))


def test_the_gap_sees_dropout_and_leaves_its_source_alone(data):
    task, model = build(data, gap=1), nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)).eval()
    state = torch.get_rng_state()
    assert task.evaluate(model)["train/gap"] > 1
    assert torch.equal(torch.get_rng_state(), state)
    assert "train/gap" not in build(data).evaluate(model)
    assert build(data, gap=3).evaluate(nn.Linear(4, 3).eval())["train/gap"] == 0


@pytest.mark.parametrize("options", [{"gap": -1}, {"batches": "sorted"}, {"gap": 0.5}], ids=str)
def test_bad_options_of_the_task_are_refused(data, options):
    with pytest.raises(UserError, match=next(iter(options))):
        build(data, **options)
