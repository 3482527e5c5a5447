"""Language models: streams and perplexities by hand, the state's zeros, runs that are interrupted."""

import itertools
import math

import pytest
import torch
from torch import nn

from normtables.data import Text
from normtables.errors import UserError
from normtables.tasks import TASKS
from normtables.training.run import execute

SYMBOLS = tuple("abcde")


def text(length, seed):
    return torch.randint(len(SYMBOLS), (length,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def data():
    return Text(torch.arange(26) % 5, text(15, 1), text(12, 2), SYMBOLS)


def build(data, streams=2, unroll=3):
    return TASKS.build({"name": "language", "version": 1, "unroll": unroll}, data, streams, 0)


class Table(nn.Module):
    """Scores of the next symbol by this one alone, and what it was asked."""

    def __init__(self, seed=0):
        super().__init__()
        self.carried, self.asked = None, []
        self.scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def forward(self, symbols, fresh):
        self.asked.append(fresh)
        return self.scores[symbols]


def test_streams_by_hand(data):
    """26 symbols in two streams of 13: four windows of three, the last symbol is a target only."""
    task = build(data)
    batches = list(itertools.islice(task.batches(Table(), 0), 9))
    numbers = torch.arange(26)
    for i, (inputs, targets, fresh) in enumerate(batches):
        first = 3 * (i % 4)
        rows = [[numbers[13 * stream + first + t] for stream in (0, 1)] for t in range(4)]
        assert torch.equal(inputs, torch.tensor(rows[:3]) % 5)
        assert torch.equal(targets, torch.tensor(rows[1:]) % 5)
        assert fresh == (i % 2 == 0)
    assert task.clock == {"step": 1, "epoch": 4}
    assert task.sizes == {"inputs": (3,), "outputs": 5, "streams": 2}


@pytest.mark.parametrize("step", [1, 3, 4, 6, 401])
def test_any_update_can_be_the_first(data, step):
    task = build(data)
    whole = list(itertools.islice(task.batches(Table(), 0), step, step + 5))
    for one, other in zip(task.batches(Table(), step), whole):
        assert all(torch.equal(a, b) for a, b in zip(one[:2], other))
        assert one[2] == other[2]


def test_an_odd_window_is_left_out(data):
    task = build(Text(torch.arange(32) % 5, data.valid, data.test, SYMBOLS))  # 16 a stream: five windows
    assert task.clock["epoch"] == 4


def by_hand(scores, rows):
    """Mean cross-entropy of windows of (symbol, next symbol) pairs, one number each."""
    losses = []
    for pairs in rows:
        nats = [math.log(sum(math.exp(s) for s in scores[a].tolist())) - scores[a, b].item() for a, b in pairs]
        losses.append(sum(nats) / len(nats))
    return losses


def pairs_of(stream, count, unroll, windows):
    length = len(stream) // count
    rows = [stream[k * length : (k + 1) * length].tolist() for k in range(count)]
    return [[(row[t], row[t + 1]) for row in rows for t in range(i * unroll, (i + 1) * unroll)] for i in range(windows)]


def test_scores_by_hand(data):
    model, task = Table(), build(data)
    found = task.evaluate(model)
    for name, stream in (("valid", data.valid), ("test", data.test)):
        losses = by_hand(model.scores, pairs_of(stream, 2, 3, (len(stream) // 2 - 1) // 3))
        mean = sum(losses) / len(losses)
        assert found[f"{name}/loss"] == pytest.approx(mean)
        assert found[f"{name}/ppl"] == pytest.approx(sum(map(math.exp, losses)) / len(losses))
        assert found[f"{name}/ppl_mean"] == pytest.approx(math.exp(mean))
        assert found[f"{name}/bits"] == pytest.approx(mean / math.log(2))
    assert found["valid/ppl"] > found["valid/ppl_mean"]
    assert model.asked == [True, False, True]


def test_the_loss_is_that_of_a_window_of_one_stream(data):
    model, task = Table(), build(data)
    batch = next(task.batches(model, 0))
    [loss] = by_hand(model.scores, pairs_of(data.train, 2, 3, 1))
    assert task.loss(model, batch).item() == pytest.approx(3 * loss)


def test_scores_of_training_are_means_over_updates(data):
    model, task = Table(), build(data)
    losses = by_hand(model.scores, pairs_of(data.train, 2, 3, 4))
    tallies = torch.stack([task.tally(task.loss(model, b)) for b in itertools.islice(task.batches(model, 0), 4)])
    found = task.trained(tallies.mean(0).tolist())
    mean = sum(losses) / 4
    assert found == pytest.approx(
        {
            "train/loss": 3 * mean,
            "train/ppl": sum(map(math.exp, losses)) / 4,
            "train/ppl_mean": math.exp(mean),
            "train/bits": mean / math.log(2),
        }
    )
    assert task.trained([3000.0, math.inf])["train/ppl_mean"] == math.inf


def test_chance_knows_how_often_symbols_come(data):
    counts = [(data.train == k).sum().item() + 1 for k in range(5)]
    nats = [-math.log(counts[k] / sum(counts)) for k in data.valid.tolist()]
    assert build(data).chance == pytest.approx(math.exp(sum(nats) / len(nats)))


@pytest.mark.parametrize(
    ("streams", "unroll", "says"), [(2, 0, "unroll=0"), (5, 3, "train text"), (8, 1, "valid text"), (5, 2, "test text")]
)
def test_a_text_that_is_too_short_is_told(data, streams, unroll, says):
    with pytest.raises(UserError, match=says) as error:
        build(data, streams, unroll)
    assert "\n" not in str(error.value)


def test_a_network_without_state_is_refused(composer, results):
    with pytest.raises(UserError, match="model=lstm"):
        execute(composer.config({"dataset": "topics", "model": "mlp", "norm": "none", "results": str(results)}))


@pytest.fixture
def run(composer, tmp_path):
    """Settings to the configuration of a small language model on a text of its own."""
    words = [" ".join(SYMBOLS[k] for k in text(12, seed).tolist()) for seed in range(100)]
    (tmp_path / "text.txt").write_text("\n".join(words))

    def make(folder="whole", **settings):
        common = {"dataset": "text", "dataset.path": str(tmp_path / "text.txt"), "dataset.task.unroll": 5}
        common |= {"model": "lstm", "model.width": 0.03, "model.dropout": 0.2, "norm": "none", "batch_size": 4}
        common |= {"optim.lr": 0.5, "optim.clip": 1.0, "runtime.checkpoint": 0, "results": str(tmp_path / folder)}
        return composer.config(common | {"budget": "1epoch", "evaluate": "7steps"} | settings)

    return make


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "none"},
        {"norm": "ln"},
        {"norm": "bn_recurrent", "norm.steps": 5},
        {"norm": "bn_recurrent", "norm.evaluation": "published"},
        {"norm": "bn_recurrent", "norm.variant": "per_step"},
    ],
    ids=str,
)
def test_an_interrupted_run_goes_on_with_the_state_it_carried(run, same_in_two_parts, settings):
    whole, torn = run(**settings), run("torn", **settings)
    _, rows = same_in_two_parts(whole, torn, step=14)  # neither a half nor an epoch: the state is not zero here
    assert [row["step"] for row in rows][:3] == [7, 14, 21]


def test_it_learns_what_follows_what(composer, tmp_path):
    """Letters in their order have no uncertainty; those that come in any order keep all of it."""
    (tmp_path / "abc").write_text("\n".join(["a b c d e f g h"] * 300))
    settings = {"dataset": "text", "dataset.path": str(tmp_path / "abc"), "model": "lstm", "model.width": 0.1}
    settings |= {"norm": "none", "optim.lr": 1.0, "optim.clip": 5.0, "batch_size": 10, "dataset.task.unroll": 10}
    cfg = composer.config(settings | {"budget": "200steps", "results": str(tmp_path / "results")})
    record = execute(cfg)
    assert record.final["valid/ppl"] < 1.1 < 5 < record.score["chance"]


def test_half_precision(run):
    record = execute(run(precision="bfloat16", norm="bn_recurrent"))
    assert record.status == "finished"
    assert record.final["valid/ppl"] < 100
