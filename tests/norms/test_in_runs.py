"""Every method, now and later, in a run on the embedded digits: made, interrupted and resumed, recurrent."""

import itertools

import pytest
import torch
from torch import nn

from normtables.__main__ import dispatch
from normtables.config import run_id
from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS
from normtables.records import Store
from normtables.registry import Entry
from normtables.training.run import execute

MODELS_HERE = {"mlp": {"model.widths": [6]}, "cnn4": {"model.widths": [2, 3], "model.hidden": 5}}
# what a method keeps or does beside the model's parameters and buffers
OWN = {
    "bn_recurrent": {"norm.variant": "per_step", "norm.steps": 5},
    "brn": {"norm.warmup": 2, "norm.r_until": 8, "norm.d_until": 6},
    "dbn": {"norm.alpha": "1/m", "norm.initial": "random", "norm.count": "epoch"},
    "normprop": {"norm.pool": "independent", "norm.inputs": "channel"},
    "riemannian": {"norm.rule": "adam_g"},
    "wn": {"norm.data_init": True},
    "wn_mean": {"norm.data_init": True, "norm.ghost": 10},
}


class RowLSTM(nn.Module):
    """An image's rows from top to bottom through two LSTM layers, and a linear layer on the last state."""

    def __init__(self, kit, sizes, *, widths):
        super().__init__()
        hidden, inputs = widths[0], sizes["inputs"][-1]
        self.layers = nn.ModuleList(kit.recurrent(n, hidden) for n in (inputs, hidden))
        self.head = kit.head(hidden, sizes["outputs"])

    def forward(self, x):
        x = x.flatten(1, -2).transpose(0, 1)
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x[-1])


def rows_lstm(kit, sizes, *, widths: list[int], dropout: float = 0.0) -> nn.Module:
    return RowLSTM(kit, sizes, widths=widths)


@pytest.fixture
def recurrent(monkeypatch):
    """`mlp` means an LSTM network for a while."""
    assert "mlp" in MODELS
    monkeypatch.setitem(MODELS._entries, "mlp", Entry(rows_lstm, MODELS["mlp"].version))


@pytest.fixture
def compare(same_in_two_parts):
    """A run, and the same one interrupted behind an evaluation and taken up again, end the same, to the last bit."""

    def make(cfgs, stop=6):
        _, rows = same_in_two_parts(*cfgs, step=stop)
        assert [row["step"] for row in rows] == [3, 6, 9]

    return make


@pytest.fixture
def pair(small, tmp_path):
    """Settings to two configurations of one run, which differ in their folder alone."""

    def make(**settings):
        common = {"runtime.checkpoint": 0, "budget": "9steps", "evaluate": "3steps", "optim.momentum": 0.9}
        return [small(results=str(tmp_path / name), **common | settings) for name in ("whole", "torn")]

    return make


@pytest.mark.parametrize(("norm", "model"), list(itertools.product(METHODS, MODELS_HERE)))
def test_an_interrupted_run_ends_as_if_nothing_had_happened(pair, norm, model, compare):
    """Each method with what it keeps of its own: optimizer states, moments of the data, counts, settled statistics."""
    compare(pair(norm=norm, model=model, batch_size=300, **OWN.get(norm, {}), **MODELS_HERE[model]))


@pytest.mark.parametrize("norm", ["hg", "riemannian"])
def test_interrupted_behind_its_last_evaluation(pair, norm, compare):
    """A settled model is not settled again."""
    compare(pair(norm=norm, batch_size=300), stop=9)


@pytest.mark.parametrize(("norm", "model"), list(itertools.product(METHODS, MODELS_HERE)))
def test_half_precision(small, norm, model):
    """A run at its defaults under autocast; the record has finite scores."""
    record = execute(small(norm=norm, model=model, precision="bfloat16", **MODELS_HERE[model]))
    assert record.status == "finished"
    assert record.final["test/loss"] < 100


@pytest.mark.parametrize("norm", METHODS)
def test_a_recurrent_network(pair, recurrent, norm, compare):
    options = {k: v for k, v in OWN.get(norm, {}).items() if k in ("norm.variant", "norm.steps", "norm.rule")}
    compare(pair(norm=norm, **options))


@pytest.mark.parametrize("evaluation", ["population", "batch", "published"])
@pytest.mark.parametrize("variant", ["frame_wise", "per_step"])
def test_recurrent_batch_normalization(small, recurrent, variant, evaluation):
    """The averages move in training and, published, in evaluation; each way ends with finite scores."""
    cfg = small(norm="bn_recurrent", norm__variant=variant, norm__evaluation=evaluation, norm__steps=8)
    record = execute(cfg)
    assert record.status == "finished"
    assert record.final["test/loss"] < 100


@pytest.mark.parametrize(("norm", "option"), [("hg", "norm.norm"), ("dbn", "norm.count"), ("normprop", "norm.inputs")])
def test_a_task_without_epochs_is_told_before_training(norm, option):
    """As a task may be that counts frames or episodes."""
    settings = {"name": norm} | ({"count": "epoch"} if norm == "dbn" else {})
    method = METHODS.build(settings)
    net = nn.Sequential(method.inputs(), method.norm(3, 0))
    with pytest.raises(UserError, match=option) as error:
        method.prepare(net, lambda: net(torch.randn(4, 3)).sum(), {"step": 1, "frame": 4})
    assert "\n" not in str(error.value)


def test_batches_of_one_are_told_in_one_line_and_leave_nothing(small):
    cfg = small(norm="bn", batch_size=1)
    with pytest.raises(UserError, match="batch_size"):
        execute(cfg)
    assert Store(cfg.results).read(run_id(cfg)) is None


@pytest.mark.parametrize("norm", ["riemannian", "wn"])
def test_the_command(norm, results):
    """The door itself: `normtables run norm=...`."""
    words = [f"norm={norm}", "model.widths=[6]", "budget=2steps", "batch_size=50", f"results={results}"]
    dispatch(["run", *words])
    [record] = Store(results).records()
    assert (record.status, record.config["norm"]["name"]) == ("finished", norm)
