"""Several labels an example: masked loss and areas under the curve against scikit-learn, missing labels, the stream."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from normtables.data import Dataset, Multilabel, Split
from normtables.errors import UserError
from normtables.tasks import TASKS
from normtables.tasks.multilabel import auc, masked_loss, mean_auc


def split(n, seed, tasks=3, missing=0.3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, tasks)).astype(np.float32)
    labels[rng.uniform(size=labels.shape) < missing] = np.nan
    inputs = np.arange(n, dtype=np.float32)[:, None].repeat(4, 1) / n
    return Split(torch.from_numpy(inputs), torch.from_numpy(labels))


@pytest.fixture
def data():
    return Multilabel(split(23, 0), split(40, 1), split(50, 2))


def build(data, batch_size=5, seed=0):
    return TASKS.build({"name": "multilabel", "version": 1}, data, batch_size, seed)


def test_what_a_model_and_a_duration_must_know(data):
    task = build(data)
    assert task.sizes == {"inputs": (4,), "outputs": 3}
    assert task.clock == {"step": 1, "epoch": 4}
    assert (task.score, task.better, task.chance) == ("test/auc", "higher", 50)


def test_the_loss_is_summed_over_tasks_and_divided_by_examples(data):
    """Per task scikit-learn's log loss of the known labels, added up; the missing ones are not in the divisor."""
    outputs, targets = torch.randn(40, 3, dtype=torch.float64), data.valid.targets.double()
    expected = 0
    for task in range(3):
        known = ~targets[:, task].isnan()
        expected += log_loss(targets[known, task], outputs[known, task].sigmoid(), normalize=False, labels=[0, 1])
    assert masked_loss(outputs, targets).item() == pytest.approx(expected)
    task, model = build(data), nn.Linear(4, 3).double()
    found = task.loss(model, (data.valid.inputs.double(), targets))
    assert found.item() == pytest.approx(masked_loss(model(data.valid.inputs.double()), targets).item() / 40)


def test_a_missing_label_has_no_part_in_loss_or_gradient():
    outputs = torch.randn(6, 3, requires_grad=True)
    targets = torch.tensor([0.0, 1, float("nan")]).repeat(6, 1)
    masked_loss(outputs, targets).backward()
    assert (outputs.grad[:, 2] == 0).all()
    assert (outputs.grad[:, :2] != 0).all()
    assert masked_loss(outputs[:, :2], targets[:, :2]).item() == pytest.approx(masked_loss(outputs, targets).item())
    assert targets[:, 2].isnan().all(), "and is not filled"


@pytest.mark.parametrize("ties", [1, 10, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_areas_are_scikit_learns(ties, seed):
    """`ties` 1: all scores equal one of two values; 1000: hardly any two are equal."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, ties + 1, 200) / 7
    labels = rng.uniform(size=200) < 0.2 + 0.3 * (scores > scores.mean())
    found = auc(torch.from_numpy(scores), torch.from_numpy(labels))
    assert found == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_areas_of_the_extremes():
    positive = torch.tensor([False, False, True, True])
    assert auc(torch.tensor([1.0, 2, 3, 4]), positive) == 1
    assert auc(torch.tensor([4.0, 3, 2, 1]), positive) == 0
    assert auc(torch.zeros(4), positive) == 0.5
    assert auc(torch.tensor([-torch.inf, 0, 1, torch.inf]), positive) == 1
    assert np.isnan(auc(torch.tensor([1, 2, 3, torch.nan]), positive))


def test_the_mean_is_over_tasks_with_both_labels():
    outputs, targets = torch.randn(50, 4), split(50, 3, tasks=4).targets
    targets[:, 1] = torch.where(targets[:, 1].isnan(), targets[:, 1], 0)  # nothing positive is known
    targets[:, 2] = torch.nan  # nothing is known
    expected = []
    for task in (0, 3):
        known = ~targets[:, task].isnan()
        expected.append(roc_auc_score(targets[known, task], outputs[known, task]))
    assert mean_auc(outputs, targets) == pytest.approx(100 * np.mean(expected))


def test_scores_of_both_splits(data):
    model = nn.Linear(4, 3).eval()
    scores = build(data).evaluate(model)
    assert list(scores) == ["valid/loss", "valid/auc", "test/loss", "test/auc"]
    for name in ("valid", "test"):
        part = getattr(data, name)
        with torch.no_grad():
            outputs = model(part.inputs)
        assert scores[f"{name}/auc"] == pytest.approx(mean_auc(outputs, part.targets))
        expected = masked_loss(outputs, part.targets).item() / len(part.targets)
        assert scores[f"{name}/loss"] == pytest.approx(expected, rel=1e-5)


def test_a_large_split_is_evaluated_in_pieces(data, monkeypatch):
    model = nn.Linear(4, 3).eval()
    expected = build(data).evaluate(model)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr("normtables.tasks.multilabel.EVALUATED", 15)
    assert build(data).evaluate(model) == pytest.approx(expected)
    assert seen == [15, 15, 10, 15, 15, 15, 5]


def test_the_stream_is_the_seeds_and_goes_on_anywhere(data):
    def rows(step, n, seed=0):
        stream = build(data, seed=seed).batches(None, step)
        found = [next(stream) for _ in range(n)]
        for inputs, targets in found:
            chosen = (inputs[:, 0] * 23).round().long()
            torch.testing.assert_close(targets, data.train.targets[chosen], equal_nan=True)
        return [inputs[:, 0].tolist() for inputs, _ in found]

    whole = rows(0, 12)
    assert len({x for batch in whole[:4] for x in batch}) == 20
    assert whole[:4] != whole[4:8]
    assert rows(5, 7) == whole[5:]
    assert rows(0, 12, seed=1) != whole


def test_data_that_cannot_be_scored_are_refused(data):
    none = Split(data.test.inputs, data.test.targets.where(data.test.targets.isnan(), 0.0))
    with pytest.raises(UserError, match="no task has examples of both labels in the test split"):
        build(Multilabel(data.train, data.valid, none))
    with pytest.raises(UserError, match="needs a data set with a label for each of several tasks"):
        build(Dataset(data.train, data.valid, data.test, 2))
    with pytest.raises(UserError, match="batch_size=24: the training set has 23"):
        build(data, batch_size=24)


def test_a_run_learns_the_synthetic_tasks(small):
    from normtables.training.run import execute

    settings = {"model__widths": [32], "budget": "5epochs", "evaluate": "1epoch", "optim__lr": 0.1}
    record = execute(small(dataset="synthetic_tasks", **settings))
    assert record.status == "finished"
    assert record.final["test/auc"] > 70
    assert record.score == {"name": "test/auc", "better": "higher", "chance": 50}
