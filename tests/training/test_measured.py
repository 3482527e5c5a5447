"""What a run costs without making it: sizes against the run itself, counted calls in the place of a clock."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from normtables.config import facts
from normtables.errors import UserError
from normtables.training import measured
from normtables.training.measured import OVERHEAD, Cost, Size, Sizes, cost
from normtables.training.run import Training, execute, silent

HERE = Path("/nowhere")
FIT = {"model": "naive_bayes", "norm": "none", "dataset": "uci", "budget": "0steps", "batch_size": 20}


@pytest.fixture
def ticking(monkeypatch):
    """A clock that advances by one at each look, so that everything takes a second."""
    ticks = itertools.count()
    monkeypatch.setattr(measured, "clock", lambda device: lambda: float(next(ticks)))


@pytest.fixture
def counted(monkeypatch):
    """How often trainings update and evaluate."""
    calls = {"update": 0, "evaluation": 0, "rates": set()}
    scores, train = Training.scores, Training.pauses

    def updates(self):
        for position in train(self):
            calls["update"] += 1
            calls["rates"].add(self.optimizer.param_groups[0]["lr"])
            yield position

    def evaluations(self, last):
        calls["evaluation"] += 1
        return scores(self, last)

    monkeypatch.setattr(Training, "pauses", updates)
    monkeypatch.setattr(Training, "scores", evaluations)
    return calls


def test_a_size_is_what_the_run_does(small, results):
    cfg = small(budget="7steps", evaluate="2steps")
    size = Sizes(HERE).of(facts(cfg))
    assert (size.updates, size.evaluations) == (7, 4)
    record = execute(cfg)
    assert record.facts["steps"] == 7
    assert len((results / "runs" / record.id / "history.csv").read_text().splitlines()) == 1 + 4
    training = Training(cfg, facts(cfg), results, silent)
    assert size.examples == len(training.task.data.train.targets)
    assert size.work == 7 * (OVERHEAD + record.facts["parameters"])


def test_the_size_of_a_fit(composer):
    assert Sizes(HERE).of(facts(composer.config({**FIT, "dataset.set": "iris"}))) == Size(0, 1, 96, 96)


def test_what_is_not_measured_says_why(composer, monkeypatch):
    with pytest.raises(UserError, match=r"the data root /nowhere does not exist; run `normtables data fetch mnist`"):
        Sizes(HERE).of(facts(composer.config({**FIT, "dataset": "mnist"})))
    monkeypatch.setattr(measured, "FITTED", 95)
    with pytest.raises(UserError, match="fits to more than 95 examples are not measured"):
        Sizes(HERE).of(facts(composer.config(FIT)))
    Sizes(HERE).of(facts(composer.config({"dataset": "digits"})))


def test_each_data_set_is_loaded_and_each_network_built_once(composer, monkeypatch):
    calls = []
    monkeypatch.setattr(measured, "load", lambda *given, load=measured.load: calls.append(given) or load(*given))
    sizes, base = Sizes(HERE), {"dataset": "uci", "batch_size": 10, "model": "fnn", "budget": "1epoch"}
    found = [
        sizes.of(facts(composer.config({**base, "dataset.set": name, "model.depth": depth, "seed": seed})))
        for name, depth, seed in itertools.product(("iris", "wine"), (1, 2), (0, 1))
    ]
    assert len(calls) == len(sizes.weights) == 2
    assert len(set(found)) == 4
    missing = facts(composer.config({"dataset": "mnist"}))
    for _ in range(2):
        with pytest.raises(UserError):
            sizes.of(missing)
    assert len(calls) == 3


def test_a_model_that_looks_at_its_weights_counts_without_them(composer, monkeypatch):
    def built(*given):
        return torch.zeros(1).item()

    monkeypatch.setattr(measured.MODELS, "build", built)
    known = facts(composer.config({"dataset": "digits", "budget": "3steps"}))
    assert Sizes(HERE).of(known).work == 3 * OVERHEAD


def test_a_cost_takes_a_few_updates_at_rate_0_and_leaves_nothing(small, results, ticking, counted):
    cfg = small(budget="1000steps", optim__lr=1e9)
    assert cost(cfg, results).update == 1.0
    assert counted == {"update": 2, "evaluation": 0, "rates": {0.0}}, "a second is as long as one may take"
    assert not results.exists()


def test_updates_are_many_where_they_are_quick_and_no_more_than_the_run_has(small, results, monkeypatch, counted):
    monkeypatch.setattr(measured, "clock", lambda device: lambda: 0.0)
    cost(small(budget="1000steps"), results)
    assert counted["update"] == 1 + measured.UPDATES
    assert counted["evaluation"] == 1, "a quick one is made"
    cost(small(budget="3steps"), results)
    assert counted["update"] == 1 + measured.UPDATES + 3


def test_a_long_evaluation_is_told_from_forward_passes(small, results, ticking, counted):
    """digits: as many passes of 20 examples as the examples of valid and test fill, of a second each."""
    cfg = small(budget="1000steps")
    training = Training(cfg, facts(cfg), results, silent)
    data = training.task.data
    share = (len(data.valid.targets) + len(data.test.targets)) / len(data.train.targets)
    assert cost(cfg, results).evaluation == pytest.approx(1.0 * (len(data.train.targets) // 20) * share)
    assert counted["evaluation"] == 0


def test_a_fit_is_made_whole(composer, results, ticking, counted):
    assert cost(composer.config(FIT | {"results": str(results)}), results) == Cost(1.0, 1.0)
    assert counted["evaluation"] == 1


def test_a_network_that_is_not_finite_from_the_start_has_a_cost(small, results, monkeypatch):
    monkeypatch.setattr(Training, "build", lambda self, cfg, build=Training.build: ruined(build(self, cfg)))
    assert math.isfinite(cost(small(), results).update)


def ruined(model):
    """The same network with weights that are no numbers."""
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    return model


def test_several_threads_are_timed_on_the_wall():
    assert measured.clock(torch.device("cpu")) is measured.time.process_time
    torch.set_num_threads(2)
    assert measured.clock(torch.device("cpu")) is not measured.time.process_time
