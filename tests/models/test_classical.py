"""Classical models against scikit-learn called directly, in runs of no updates, and where they are refused."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import nn

from normtables.config import facts, run_id
from normtables.data import Dataset, Split, load
from normtables.errors import UserError
from normtables.models import MODELS
from normtables.models.classical import Classical
from normtables.norms import METHODS, Kit
from normtables.records import Store
from normtables.schema import register_schema
from normtables.tasks.classify import Classify
from normtables.training import fitted, run
from normtables.training.run import Training, execute

# name: settings, and the same written with scikit-learn
CASES = {
    "svm": ({"model.C": 10, "model.gamma": 0.05}, lambda seed: SVC(C=10, gamma=0.05)),
    "random_forest": (
        {"model.n_estimators": 20, "model.max_features": "log2"},
        lambda seed: RandomForestClassifier(20, max_features="log2", random_state=seed),
    ),
    "nearest_neighbour": ({"model.n_neighbors": 4}, lambda seed: KNeighborsClassifier(4)),
    "naive_bayes": ({"model.var_smoothing": 1e-3}, lambda seed: GaussianNB(var_smoothing=1e-3)),
    "logistic_regression": ({"model.C": 0.5}, lambda seed: LogisticRegression(C=0.5, max_iter=1000)),
    "boosted_trees": (
        {"model.max_iter": 5, "model.learning_rate": 0.3, "model.max_leaf_nodes": 7},
        lambda seed: HistGradientBoostingClassifier(
            max_iter=5, learning_rate=0.3, max_leaf_nodes=7, early_stopping=False, random_state=seed
        ),
    ),
}
FIT = {"norm": "none", "budget": "0steps", "evaluate": "1epoch", "batch_size": 20}
KEPT = ["config.yaml", "history.csv", "record.json"]


@pytest.fixture
def classical(composer, results):
    """The configuration of a classical model's run on digits."""

    def make(model, **more):
        return composer.config(FIT | {"model": model, "results": str(results)} | CASES[model][0] | more)

    return make


def built(model, classes=3, norm="none", **options):
    return MODELS.build(
        {"name": model, **options}, Kit(METHODS.build({"name": norm})), {"inputs": (2,), "outputs": classes}
    )


def told(call, *parts):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("model", CASES)
def test_error_rates_are_those_of_scikit_learn(classical, results, model):
    cfg = classical(model, seed=3)
    record = execute(cfg)
    data = load(facts(cfg)["dataset"], results, 0)
    direct = CASES[model][1](3).fit(data.train.inputs.flatten(1).numpy(), data.train.targets.numpy())
    for name, split in (("valid", data.valid), ("test", data.test)):
        wrong = direct.predict(split.inputs.flatten(1).numpy()) != split.targets.numpy()
        assert record.final[f"{name}/error"] == pytest.approx(100 * wrong.mean(), abs=1e-9)
    assert record.final["test/error"] < 30 < record.score["chance"]
    assert 0 < record.final["test/loss"] < 20


def test_every_classical_model_is_listed_here():
    known = {name for name, entry in MODELS.items() if entry.factory.__module__ == Classical.__module__}
    assert set(CASES) == known


def test_a_fit_leaves_a_record_like_any_run(classical):
    cfg = classical("naive_bayes")
    record, store = execute(cfg), Store(cfg.results)
    assert (record.id, record.status) == (run_id(cfg), "finished")
    assert sorted(os.listdir(store.folder(record.id))) == KEPT
    [row] = store.history(record.id)
    assert list(row) == [
        *("step", "epoch", "seconds", "lr", "valid/loss", "valid/error", "valid/accuracy"),
        *("test/loss", "test/error", "test/accuracy"),
    ]
    assert (row["step"], row["epoch"]) == (0, 0)
    assert record.config["budget"] == {"step": 0}
    assert (record.facts["steps"], record.facts["parameters"]) == (0, 0)
    assert "scikit-learn" in record.facts["versions"]
    assert record.final == {k: v for k, v in row.items() if "/" in k}


def test_nothing_has_one_spelling(classical):
    ids = {run_id(classical("svm", budget=text)) for text in ("0steps", "0 step", "0epochs", "0.0 epochs")}
    assert len(ids) == 1


@pytest.mark.parametrize("optim", ["sgd", "adam", "adagrad"])
def test_an_optimizer_without_parameters_is_no_obstacle(classical, optim):
    assert execute(classical("naive_bayes", optim=optim)).status == "finished"


def test_a_seed_draws_the_forest_and_the_same_one_draws_it_again(classical, tmp_path):
    found = [
        execute(classical("random_forest", seed=s, results=str(tmp_path / f)))
        for s, f in ((1, "a"), (1, "b"), (2, "a"))
    ]
    losses = [record.final["valid/loss"] for record in found]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("moment", ["fit", "result"])
def test_a_fit_that_is_interrupted_is_made_anew(classical, monkeypatch, tmp_path, moment):
    whole, torn = (classical("random_forest", results=str(tmp_path / name)) for name in ("whole", "torn"))
    expected = execute(whole)

    def stopped(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Classical if moment == "fit" else Training, moment, stopped)
        with pytest.raises(KeyboardInterrupt):
            execute(torn)
    assert Store(torn.results).state(run_id(torn)) == "missing"
    assert execute(torn).final == expected.final
    assert len(Store(torn.results).history(run_id(torn))) == 1


def kill_at_the_result(cfg):
    register_schema()
    Training.result = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
    execute(cfg)


def test_a_fit_that_is_killed_is_made_anew(classical):
    cfg = classical("naive_bayes")
    process = multiprocessing.get_context("forkserver").Process(target=kill_at_the_result, args=(cfg,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert execute(cfg).status == "finished"
    assert len(Store(cfg.results).history(run_id(cfg))) == 1
    assert sorted(os.listdir(Store(cfg.results).folder(run_id(cfg)))) == KEPT


def test_a_done_fit_is_never_made_again(classical, monkeypatch):
    record = execute(classical("naive_bayes"))
    monkeypatch.setattr(run, "Training", None)
    assert execute(classical("naive_bayes")) == record


def test_precision_and_compilation_change_nothing_that_is_fitted(classical):
    plain = execute(classical("naive_bayes")).final["test/error"]
    for more in ({"precision": "float64"}, {"precision": "bfloat16"}, {"runtime.compile": True, "seed": 7}):
        assert execute(classical("naive_bayes", **more)).final["test/error"] == pytest.approx(plain, abs=0.4)


# scores


@pytest.mark.parametrize("model", CASES)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_largest_score_is_the_predicted_class_and_a_class_never_seen_has_the_least(model, classes):
    torch.manual_seed(0)
    settings = {key.removeprefix("model."): value for key, value in DEFAULTS[model].items()}
    inputs, targets = torch.randn(60, 2).round(), torch.arange(60) % classes
    net = built(model, classes + 1, **settings)
    net.fit(inputs, targets, 0)
    scores = net(inputs)
    assert scores.shape == (60, classes + 1)
    assert scores.dtype == torch.float32
    assert torch.isfinite(scores).all()
    assert np.array_equal(scores.argmax(1).numpy(), net.estimator.predict(inputs.numpy()))
    assert (scores[:, -1:] <= scores[:, :-1]).all()
    assert not list(net.parameters())


def test_a_probability_of_nothing_costs_what_scikit_learns_log_loss_takes_for_float32():
    net = built("nearest_neighbour", n_neighbors=1, weights="uniform")
    net.fit(torch.tensor([[0.0, 0], [4, 0], [8, 0]]), torch.arange(3), 0)
    loss = nn.functional.cross_entropy(net(torch.tensor([[3.0, 0]])), torch.tensor([0])).item()
    assert loss == pytest.approx(log_loss([0], np.array([[0, 1, 0]], np.float32), labels=[0, 1, 2]), rel=1e-5)


DEFAULTS = {
    "svm": {"C": 1.0, "gamma": "auto"},
    "random_forest": {"n_estimators": 10, "max_features": 1.0},
    "nearest_neighbour": {"n_neighbors": 2, "weights": "distance"},
    "naive_bayes": {"var_smoothing": 1e-9},
    "logistic_regression": {"C": 1.0, "max_iter": 100},
    "boosted_trees": {"learning_rate": 0.1, "max_iter": 3, "max_leaf_nodes": 31},
}


def test_a_share_of_all_features_is_not_one_feature():
    assert built("random_forest", **DEFAULTS["random_forest"] | {"max_features": 1}).estimator.max_features == 1.0


# refused


@pytest.mark.parametrize("model", CASES)
@pytest.mark.parametrize("norm", ["bn", "snn", "wn"])
def test_there_is_nothing_to_normalise(model, norm):
    told(lambda: built(model, norm=norm, **DEFAULTS[model]), "norm=none")


def test_updates_and_fits_do_not_mix(classical, small):
    told(lambda: execute(classical("svm", budget="1epoch")), "budget=0steps")
    told(lambda: execute(small(budget="0steps")), "budget=0steps", "model=svm")


def test_only_a_budget_may_be_nothing(small):
    told(lambda: small(evaluate="0steps"), "evaluate=0steps", "positive")


def test_no_more_neighbours_than_examples():
    net = built("nearest_neighbour", n_neighbors=4, weights="uniform")
    net.fit(torch.randn(4, 2), torch.arange(4) % 3, 0)
    told(lambda: net.fit(torch.randn(3, 2), torch.arange(3), 0), "model.n_neighbors=4: the training set has 3 examples")


def test_a_task_that_classifies_no_single_examples_is_refused(composer, results):
    cfg = composer.config(FIT | {"model": "naive_bayes", "dataset": "vowels", "results": str(results)})
    told(lambda: execute(cfg), "task")
    assert not results.exists() or not os.listdir(results / "runs")


def test_images_on_disk_are_refused():
    class OnDisk:
        shape = (10, 3, 8, 8)

    split = Split(torch.zeros(10, 2), torch.arange(10) % 2)
    task = Classify(Dataset(Split(OnDisk(), split.targets), split, split, 2), 5, 0, False, 0, "none")
    told(lambda: fitted.check(built("naive_bayes", **DEFAULTS["naive_bayes"]), task, 0), "disk")
    fitted.check(nn.Linear(2, 2), task, 1)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("svm", {"C": 0.0}),
        ("svm", {"gamma": -1.0}),
        ("svm", {"gamma": "scales"}),
        ("random_forest", {"n_estimators": 0}),
        ("random_forest", {"max_features": 1.5}),
        ("nearest_neighbour", {"n_neighbors": 0}),
        ("naive_bayes", {"var_smoothing": -1.0}),
        ("logistic_regression", {"C": 0.0}),
        ("logistic_regression", {"max_iter": 0}),
        ("boosted_trees", {"learning_rate": 0.0}),
        ("boosted_trees", {"max_leaf_nodes": 1}),
    ],
    ids=str,
)
def test_impossible_options_are_refused(model, options):
    told(lambda: built(model, **DEFAULTS[model] | options), next(iter(options)))
