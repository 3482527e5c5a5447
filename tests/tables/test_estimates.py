"""Estimates from records: the finest agreement wins, and no rate goes where its unit means another thing."""

import copy

import pytest

from normtables.config import facts
from normtables.records import Record, Store
from normtables.tables.estimates import Estimate, estimate, rates

BASE = {"model": "fnn", "norm": "dbn", "dataset": "uci", "dataset.set": "wine", "batch_size": 20, "budget": "10epochs"}
FIT = {**BASE, "model": "svm", "norm": "none", "budget": "0steps"}


@pytest.fixture
def judged(composer, tmp_path):
    """The estimate for a run, given what other runs took: pairs of settings and (seconds, updates)."""

    def judge(settings, *others, status="finished", without=()):
        store = Store(tmp_path)
        for number, (other, seconds, steps) in enumerate(others):
            known = copy.deepcopy(facts(composer.config({**settings, **other})))
            for path in without:
                group, key = path.split(".")
                del known[group][key]
            store.write(Record(str(number), status, "", known, {}, {}, {"seconds": seconds, "steps": steps}))
        return estimate(facts(composer.config(settings)), rates(store))

    return judge


def test_the_finest_agreement_wins(judged):
    same = ({"seed": 1, "budget": "5epochs"}, 10.0, 50)
    assert judged(BASE, same, ({"norm.alpha": 0.5}, 40.0, 100), ({"model.depth": 2}, 80.0, 100)) == Estimate(
        20.0, False
    )


def test_other_settings_of_the_norm_come_before_those_of_the_model_and_are_not_rough(judged):
    assert judged(BASE, ({"norm.alpha": 0.5}, 40.0, 100), ({"model.depth": 2}, 80.0, 100)) == Estimate(40.0, False)


@pytest.mark.parametrize("budget", ["10epochs", "50steps"])
def test_a_network_of_another_size_tells_nothing(judged, budget):
    assert judged({**BASE, "budget": budget}, ({"model.depth": 2}, 80.0, 100)) == Estimate(None, False)


def test_updates_carry_over_between_data_sets_and_epochs_do_not(judged):
    other = ({"dataset.set": "adult"}, 80.0, 100)
    assert judged(BASE, other) == Estimate(None, False)
    assert judged({**BASE, "budget": "50steps"}, other) == Estimate(40.0, True)


def test_updates_of_the_same_model_come_before_epochs_of_another(judged):
    data, model = ({"dataset.set": "adult"}, 80.0, 100), ({"model.depth": 2}, 10.0, 100)
    assert judged({**BASE, "budget": "50steps"}, data, model) == Estimate(40.0, True)


@pytest.mark.parametrize(
    "other", [{"norm": "bn"}, {"model": "highway"}, {"batch_size": 2}, {"precision": "float64"}, {"dataset": "mnist"}]
)
def test_nothing_carries_over_from_another_kind_of_run(judged, other):
    settings = {"model": "fnn", "norm": "dbn", "dataset": "digits", "budget": "50steps"}
    assert judged(settings, (other, 80.0, 100)) == Estimate(None, False)
    assert judged(settings, (other, 80.0, 100), ({}, 40.0, 100)) == Estimate(20.0, False)


def test_fits_of_the_same_data_tell_and_those_of_other_data_do_not(judged):
    assert judged(FIT, ({"model.C": 8}, 3.0, 0), ({"model.C": 2}, 5.0, 0)) == Estimate(4.0, True)
    assert judged({**FIT, "dataset.set": "iris"}, ({"dataset.set": "adult"}, 3.0, 0))[0] is None


def test_records_older_than_a_setting_are_like_runs_at_its_neutral_value(judged):
    assert judged(BASE, ({"seed": 1}, 30.0, 100), without=["model.dropout"]) == Estimate(30.0, False)


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_runs_that_did_not_finish_tell_nothing(judged, status):
    assert judged(BASE, ({"seed": 1}, 30.0, 100), status=status)[0] is None
