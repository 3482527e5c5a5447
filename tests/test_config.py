"""What names a run: one id per computation, whatever the spelling and the machine; mistakes in one line."""

import json
import shutil

import pytest
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser

from normtables import config
from normtables.config import Composer, duration, facts, id_of, run_id, steps_of
from normtables.errors import UserError
from normtables.places import CONF, RESULTS
from normtables.records import Store

BASE = {"norm": "dbn", "optim": "adagrad", "optim.lr": 0.1, "norm.alpha": 1, "budget": "10epochs"}
GROUP_FILES = sorted(p for group in config.GROUPS for p in (CONF / group).glob("*.yaml"))


def parsed(line):
    """The settings in a command line's words."""
    found = OverridesParser.create().parse_overrides(line.split())
    return {o.key_or_group: o.value() for o in found}


def refused(call, *parts):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


# identity

SPELLINGS = [
    "norm=dbn optim=adagrad optim.lr=0.1 norm.alpha=1 budget=10epochs",
    "norm=dbn optim=adagrad optim.lr=1e-1 norm.alpha=1 budget=10epochs",
    "norm=dbn optim=adagrad optim.lr=0.1 norm.alpha=1 budget=10epochs model=mlp norm.epsilon=0.0001 precision=float32",
    "budget=10epochs norm.alpha=1 optim.lr=0.1 optim=adagrad norm=dbn",
    "norm=dbn optim=adagrad optim.lr=0.1 norm.alpha=1.0 budget=10epoch evaluate=1.0epoch",
]


@pytest.mark.parametrize("line", SPELLINGS)
def test_spellings_of_one_computation_have_one_id(composer, line):
    assert composer.id(parsed(line)) == composer.id(BASE)


def test_a_space_before_the_unit_is_a_spelling(composer):
    assert composer.id(BASE | {"budget": "10 epochs"}) == composer.id(BASE)


@pytest.mark.parametrize("line", SPELLINGS)
def test_hydra_itself_composes_the_same_run(composer, line):
    with config.hydra_at(CONF):
        assert run_id(compose("config", line.split())) == composer.id(parsed(line))


@pytest.mark.parametrize(
    "settings",
    [
        {"runtime.threads": 2},
        {"runtime.device": "cpu", "runtime.compile": True, "runtime.channels_last": "off"},
        {"runtime.checkpoint": 0, "runtime.keep_weights": True, "runtime.progress": "off"},
        {"runtime": "default", "tracker": "none", "tracker.name": "other"},
        {"data.root": "/elsewhere"},
        {"results": "/elsewhere"},
        {"frozen": "some text"},
        {"tier": "laptop"},
        {"seed": 0, "seeds.weights": 0, "seeds.order": 0, "seeds.data": 0},
    ],
    ids=lambda s: " ".join(s),
)
def test_what_computes_the_same_keeps_the_id(composer, settings):
    assert composer.id(BASE | settings) == composer.id(BASE)


def test_a_seed_is_its_two_seeds(composer):
    assert composer.id({"seed": 3}) == composer.id({"seeds.weights": 3, "seeds.order": 3})


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"seeds.weights": 1},
        {"seeds.order": 1},
        {"seeds.data": 1},
        {"precision": "float64"},
        {"tf32": True},
        {"deterministic": False},
        {"batch_size": 50},
        {"init": "he_normal"},
        {"budget": "10steps"},
        {"budget": "11epochs"},
        {"evaluate": "2epochs"},
        {"optim.lr": 0.11},
        {"optim.weight_decay": 1e-9},
        {"norm.alpha": "1/m"},
        {"norm.gradient": "batch"},
        {"norm.version": 2},
        {"model.version": 2},
        {"dataset.version": 2},
        {"dataset.task.version": 2},
        {"model.widths": [100, 100]},
        {"schedule": "step"},
        {"tier": "smoke", "budget": "10epochs"},  # evaluates more often
    ],
    ids=lambda s: " ".join(s),
)
def test_what_computes_something_else_changes_the_id(composer, settings):
    assert composer.id(BASE | settings) != composer.id(BASE)


def test_the_two_seeds_of_a_run_are_told_apart(composer):
    assert len({composer.id({k: 1}) for k in ("seed", "seeds.weights", "seeds.order", "seeds.data")}) == 4


def test_a_changed_default_changes_the_id(composer, tmp_path, monkeypatch):
    known = composer.id({"norm": "bn"}), composer.id({"norm": "none"})
    folder = shutil.copytree(CONF, tmp_path / "conf")
    text = (folder / "norm" / "bn.yaml").read_text()
    (folder / "norm" / "bn.yaml").write_text(text.replace("1.0e-5", "1.0e-4"))
    monkeypatch.setattr(config, "CONF", folder)
    edited = Composer()
    assert edited.id({"norm": "bn"}) != known[0]
    assert edited.id({"norm": "none"}) == known[1]
    assert edited.id({"norm": "bn", "norm.epsilon": 1e-5}) == known[0]


def test_a_later_setting_is_left_out_at_its_neutral_value(composer, monkeypatch):
    old = facts(composer.config(BASE))
    at_neutral, moved = json.loads(json.dumps(old)), json.loads(json.dumps(old))
    at_neutral["norm"]["gadget"], moved["norm"]["gadget"] = 1, 2
    at_neutral["whole"] = moved["whole"] = "off"
    known = id_of(old)
    assert id_of(at_neutral) != known
    later = {"norm.gadget": 1, "whole": "off", "model.nothing.here": 0}
    monkeypatch.setattr(config, "NEUTRAL", {**config.NEUTRAL, **later})
    assert id_of(old) == id_of(at_neutral) == known != id_of(moved)
    assert at_neutral["norm"]["gadget"] == 1, "the facts themselves stay whole"


def test_the_hash_is_the_one_that_named_the_committed_runs():
    known = {
        "norm": {"name": "dbn", "alpha": 0.25, "version": 1},
        "budget": {"epoch": 10},
        "init": "torch",
        "tf32": False,
    }
    assert id_of(known) == id_of(dict(reversed(known.items()))) == "d78fb329bb6a"


def test_a_run_of_table_3_keeps_its_id(composer):
    """It changes when a setting is added without its neutral value, or a version is raised."""
    settings = {"dataset": "mnist", "model": "mlp", "model.widths": [300, 300], "norm": "dbn", "norm.alpha": "1/m^2"}
    settings |= {"norm.forward": "average", "norm.gradient": "none", "norm.count": "update", "norm.initial": "unit"}
    settings |= {"norm.averaged": "sigma", "norm.position": "before", "norm.epsilon": 1e-4, "norm.epsilon_in": "sigma"}
    settings |= {"optim": "adagrad", "optim.lr": 0.01, "optim.weight_decay": 1e-4, "init": "glorot_uniform"}
    assert composer.id(settings | {"budget": "100epochs", "seed": 2}) == "c65b06d68390"


def test_committed_records_have_the_ids_of_their_configurations():
    store = Store(RESULTS)
    if not store.ids():
        pytest.skip("no committed records yet")
    for run in store.ids():
        record = store.read(run)
        assert id_of(record.config) == record.id == run


# composing


@pytest.mark.parametrize("path", GROUP_FILES, ids=lambda p: f"{p.parent.name}={p.stem}")
def test_every_file_composes_by_itself(composer, path):
    cfg = composer.config({path.parent.name: path.stem})
    assert len(run_id(cfg)) == 12
    if path.parent.name not in ("tier", "runtime"):
        assert cfg[path.parent.name].name == path.stem


def test_settings_do_not_leak_from_one_configuration_into_the_next(composer):
    before = composer.id({})
    composer.config({"model.widths": [1], "optim.lr": 9, "seed": 4})["batch_size"] = 7
    assert composer.id({}) == before


def test_a_folder_of_ones_own_adds_choices(composer, tmp_path):
    (tmp_path / "my conf" / "norm").mkdir(parents=True)
    (tmp_path / "my conf" / "norm" / "mine.yaml").write_text("name: bn\nversion: 1\nepsilon: 0.5\n")
    own = Composer([tmp_path / "my conf"])
    assert own.config({"norm": "mine"}).norm.epsilon == 0.5
    assert own.id({}) == composer.id({})
    refused(lambda: composer.config({"norm": "mine"}), "no norm 'mine'")
    refused(lambda: Composer([tmp_path / "nowhere"]), "nowhere", "no such folder")


def test_the_data_root_is_the_environments_or_in_the_users_cache(composer, monkeypatch, tmp_path):
    monkeypatch.setenv("NORMTABLES_DATA", "/somewhere")
    assert composer.config({}).data.root == "/somewhere"
    monkeypatch.delenv("NORMTABLES_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert composer.config({}).data.root == str(tmp_path / "normtables" / "data")


# mistakes


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"norm": "dnb"}, ["no norm 'dnb'", "did you mean 'dbn'?", "there are: bn, "]),
        ({"model": "mpl"}, ["no model 'mpl'", "did you mean 'mlp'?"]),
        ({"dataset": "digts"}, ["no dataset 'digts'", "did you mean 'digits'?"]),
        ({"tier": "labtop"}, ["no tier 'labtop'", "did you mean 'laptop'?"]),
        ({"norm": "../norm/bn"}, ["no norm '../norm/bn'"]),
        ({"optim.lrr": 1}, ["optim has no setting 'lrr'", "did you mean 'lr'?"]),
        ({"bach_size": 1}, ["no setting 'bach_size'", "did you mean 'batch_size'?"]),
        ({"seeds.wights": 1}, ["seeds has no setting 'wights'", "did you mean 'weights'?"]),
        ({"optim.lr.more": 1}, ["optim.lr has no setting 'more'"]),
        ({"model.widths.0": 1}, ["model.widths has no setting '0'"]),
        ({"": 1}, ["no setting ''"]),
        ({"batch_size": "many"}, ["batch_size=many"]),
        ({"batch_size": 1.5}, ["batch_size=1.5"]),
        ({"tf32": "perhaps"}, ["tf32=perhaps"]),
        ({"runtime.threads": "all"}, ["runtime.threads=all"]),
        ({"runtime.channels_last": "maybe"}, ["runtime.channels_last=maybe"]),
        ({"seeds": 3}, ["seeds=3"]),
        ({"batch_size": 0}, ["batch_size=0", "at least 1"]),
        ({"seed": -1}, ["seed=-1", "from 0"]),
        ({"seeds.data": -1}, ["seeds.data=-1"]),
        ({"seed": 2**31}, [f"seed={2**31}"]),
        ({"precision": "float31"}, ["precision=float31", "did you mean 'float32'?"]),
        ({"init": "he"}, ["init=he", "choose one of"]),
        ({"norm": "dbn", "norm.alpha": "${nowhere}"}, ["nowhere"]),
        *[
            ({key: text}, [f"{key}={text}", "a positive number and a unit"])
            for key in ("budget", "evaluate")
            for text in (
                "10",
                "epochs",
                "-1epochs",
                "10epochs 5steps",
                "1.2.3steps",
                ".steps",
                "1e999steps",
                "",
            )
        ],
        ({"evaluate": "0epochs"}, ["evaluate=0epochs", "a positive number and a unit"]),
    ],
    ids=lambda v: " ".join(f"{k}={x}" for k, x in v.items()) if isinstance(v, dict) else "",
)
def test_a_mistake_is_one_line_that_names_the_nearest(composer, settings, parts):
    refused(lambda: composer.id(settings), *parts)


@pytest.mark.parametrize(
    ("text", "is_"),
    [
        ("10epochs", (10, "epoch")),
        ("1_epoch", (1, "epoch")),
        ("0.5 epoch", (0.5, "epoch")),
        (".5epoch", (0.5, "epoch")),
        ("2.epochs", (2, "epoch")),
        ("1e3steps", (1000, "step")),
        ("1e-1epochs", (0.1, "epoch")),
        ("3s", (3, "s")),
    ],
)
def test_durations(text, is_):
    assert duration(text, "budget") == is_


def test_durations_in_updates():
    clock = {"step": 1, "epoch": 59}
    assert steps_of("2epochs", "budget", clock) == 118
    assert steps_of("0.5epochs", "budget", clock) == 30
    assert steps_of("0.001epochs", "budget", clock) == 1
    assert steps_of("0epochs", "budget", clock) == 0
    refused(lambda: steps_of("2epocs", "budget", clock), "budget=2epocs", "step, epoch", "did you mean 'epoch'?")
