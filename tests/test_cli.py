"""The command line on bad input: one line, exit status 2, no traceback, nothing lost; and the ways in that work."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from normtables.__main__ import dispatch, main
from normtables.config import Composer
from normtables.errors import UserError
from normtables.making import check_files
from normtables.places import CONF
from normtables.records import Store
from normtables.tables.plan import plan
from normtables.tables.spec import load


@pytest.fixture
def quick(tmp_path):
    return [f"results={tmp_path}", "model.widths=[8]", "budget=2epochs"]


def complaint(capsys, monkeypatch, *words):
    """What `normtables words` prints on standard error; its exit status must be 2."""
    monkeypatch.setattr(sys, "argv", ["normtables", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    out = capsys.readouterr().err.strip()
    assert out.count("\n") == 0
    return out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "norm=bnn"], "no norm 'bnn'; did you mean 'bn'?"),
        (["run", "model=mpl"], "did you mean 'mlp'?"),
        (["run", "dataset=minst"], "did you mean 'mnist'?"),
        (["run", "optm.lr=1"], "did you mean 'optim'?"),
        (["run", "optim.lrr=1"], "did you mean 'lr'?"),
        (["run", "optim.lr=abc"], "lr='abc' should be a number"),
        (["run", "optim.lr=-1"], "a number above 0"),
        (["run", "seed=-1"], "seed=-1: a seed is a whole number from 0"),
        (["run", "seed=abc"], "seed=abc"),
        (["run", "norm=dbn", "norm.alpha=2"], "norm.alpha=2: a number from 0 to 1"),
        (["run", "norm=dbn", "norm.forward=batches"], "one of average, batch"),
        (["run", "budget=10"], "a positive number and a unit"),
        (["run", "budget=10epoks"], "did you mean 'epoch'?"),
        (["run", "batch_size=0"], "at least 1"),
        (["run", "batch_size=5000"], "the training set has"),
        (["run", "precision=float16"], "choose one of"),
        (["run", "runtime.device=tpu9"], "runtime.device=tpu9"),
        (["run", "norm=bn,none"], "add -m for a sweep"),
        (["run", "--dry-run", "norm=bn,none"], "add -m for a sweep"),
        (["run", "-m", "norm=glob(z*)"], "norm=glob(z*): that is no value"),
        (["run", "-m", "seed=range(0,0)"], "seed=range(0,0): that is no value"),
        (["run", "-m", "norm=bn,none", "optim.lrr=1"], "did you mean 'lr'?"),
        (["run", "-m", "optim.lr=0.1,abc"], "lr='abc' should be a number"),
        (["run", "-m", "dataset.task.gap=0,no"], "gap='no' should be"),
        (["run", "-m", "+sweep=table_3"], "no sweep 'table_3'; did you mean 'table_03'?"),
        (["run", "-m", "+sweep=table_03", "+sweep=table_04"], "one sweep at a time"),
        (["run", "-m", "+sweep=linear_scaling", "norm.ghost=2"], "linear_scaling: none, batch 20: norm has no setting"),
        (["run", "-m", "norm=bn,none", "hydra/launcher=jobli"], "Could not find 'hydra/launcher/jobli'"),
        (["run", "frozen=nowhere.yaml"], "frozen=nowhere.yaml"),
        (["run", "norm"], "key=value"),
        (["run", "--foo"], "normtables: run: unrecognized arguments: --foo; see normtables run --help"),
        (["run", "dataset=text", "dataset.path=~/x.txt"], "normtables: dataset.path=~/x.txt; settings are written"),
        (["run", "-m", "norm=bn,none", "hydra.sweeper.name=../x"], "hydra.sweeper.name=../x: the name of a folder"),
        (["run", "-m", "norm=bn,none", "results=a,b"], "results=a,b: name one folder"),
        (["run", "results="], "results=: name one folder"),
        (["run", "--conf-dir", "nowhere"], "no such folder"),
        (["plan", "12"], "there is no table 12"),
        (["plan", "3", "--tier", "smoky"], "did you mean 'smoke'?"),
        (["plan", "3", "--tier", "smoke", "--measure", "many"], "argument --measure: invalid int value: 'many'"),
        (["plan", "3", "--tier", "smoke", "--measure", "0"], "--measure 0: at least 1 run"),
        (["plan", "3", "--tier", "smoke", "--measure", "2", "--json"], "without --json"),
        (["table", "3", "--nope"], "does not know --nope"),
        (["table", "3", "norm=bn"], "a table's settings stand in its file"),
        (["plan", "3", "results=there"], "a table's folder is said with --results there"),
        (["table", "3", "--run", "--jobs", "0", "--tier", "smoke"], "at least 1"),
        (["compare", "abc", "def"], "no run 'abc'"),
        (["data", "fetch", "minst"], "did you mean 'mnist'?"),
        (["data", "fetch"], "data fetch NAME ... loads data sets; data alone lists them"),
        (["data", "list", "mnist"], "data fetch NAME ... loads data sets; data alone lists them"),
        (["data", "--root", "~nouser/data"], "~nouser/data: no home folder is known for ~nouser"),
    ],
)
def test_one_line_and_status_2(words, says, capsys, monkeypatch, tmp_path):
    where = f"results={tmp_path}" if words[0] == "run" else f"--results={tmp_path}"
    assert says in complaint(capsys, monkeypatch, *words, where)


def test_a_job_that_fails_is_told_once(tmp_path, quick):
    """Hydra has a line of its own for it."""
    words = ["run", "-m", "optim.lr=0.1,-1", *quick]
    done = subprocess.run([sys.executable, "-m", "normtables", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("normtables: 1 runs failed:")
    assert "Error executing job" not in done.stderr


def test_a_model_that_is_fitted_needs_no_batches(tmp_path):
    words = ["run", "model=naive_bayes", "norm=none", "dataset=uci", "dataset.set=iris", "budget=0steps"]
    dispatch([*words, "batch_size=1000", f"results={tmp_path}"])
    [path] = tmp_path.glob("runs/*/record.json")
    assert json.loads(path.read_text())["final"]["test/accuracy"] > 80


def test_a_missing_data_root_says_how_to_get_the_data(capsys, monkeypatch, tmp_path):
    words = ["run", "dataset=mnist", f"data.root={tmp_path / 'none'}", f"results={tmp_path}"]
    assert "normtables data fetch mnist" in complaint(capsys, monkeypatch, *words)


def test_a_table_whose_data_are_missing_makes_no_run(capsys, monkeypatch, tmp_path):
    """One line for all of its runs and data sets, and no table of what was not run."""
    words = ["table", "1", "--tier", "paper", "--run", "--yes", "--results", str(tmp_path / "results")]
    said = complaint(capsys, monkeypatch, *words, f"data.root={tmp_path / 'none'}")
    assert "normtables data fetch" in said
    assert "nothing was run (--row and --column choose what has its data)" in said
    assert not (tmp_path / "results").exists()


def test_several_missing_data_sets_are_named(tmp_path):
    runs = [SimpleNamespace(facts={"dataset": {"name": name}, "model": {"name": "mlp"}}) for name in ("mnist", "ptb")]
    embedded = SimpleNamespace(facts={"dataset": {"name": "uci", "set": "iris"}, "model": {"name": "mlp"}})
    with pytest.raises(UserError, match=r"^data set 'mnist': .*fetch mnist`.*, and likewise ptb; nothing was run"):
        check_files([*runs, embedded], tmp_path)
    check_files([embedded], tmp_path)


def test_a_table_whose_runs_have_no_folder_makes_none(capsys, monkeypatch, tmp_path):
    (tmp_path / "runs").write_text("in the way")
    words = ["table", "3", "--tier", "smoke", "--run", "--results", str(tmp_path)]
    assert f"cannot write {tmp_path / 'runs'}" in complaint(capsys, monkeypatch, *words)
    assert os.listdir(tmp_path) == ["runs"]


def test_a_results_folder_that_cannot_be_written(capsys, monkeypatch, tmp_path, quick):
    (tmp_path / "file").write_text("")
    assert "cannot write" in complaint(capsys, monkeypatch, "run", *quick[1:], f"results={tmp_path / 'file'}")


def test_a_corrupt_record_is_named_and_kept(capsys, monkeypatch, tmp_path, quick):
    dispatch(["run", *quick])
    [path] = tmp_path.glob("runs/*/record.json")
    path.write_text("{")
    assert str(path) in complaint(capsys, monkeypatch, "run", *quick)
    assert path.read_text() == "{"


def test_a_misspelt_key_in_a_users_yaml(capsys, monkeypatch, tmp_path, quick):
    folder = tmp_path / "mine" / "norm"
    folder.mkdir(parents=True)
    settings = yaml.safe_load((CONF / "norm" / "bn.yaml").read_text())
    settings["epsilom"] = settings.pop("epsilon")
    (folder / "mine.yaml").write_text(yaml.safe_dump(settings))
    words = ["run", "norm=mine", "--conf-dir", str(tmp_path / "mine"), *quick]
    assert "no setting 'epsilom'; did you mean 'epsilon'?" in complaint(capsys, monkeypatch, *words)


def test_a_users_own_yaml_runs(tmp_path, quick):
    folder = tmp_path / "mine" / "norm"
    folder.mkdir(parents=True)
    text = (CONF / "norm" / "bn.yaml").read_text()
    (folder / "soft.yaml").write_text(text.replace("momentum: 0.1", "momentum: 0.01"))
    dispatch(["run", "norm=soft", "--conf-dir", str(tmp_path / "mine"), *quick])
    [record] = Store(tmp_path).records()
    assert record.config["norm"]["momentum"] == 0.01


def test_table_makes_what_is_missing_and_only_that(tmp_path, capsys):
    words = ["table", "3", "--tier", "smoke", "--results", str(tmp_path)]
    assert dispatch(words) == 0
    assert not (tmp_path / "runs").exists()
    assert dispatch([*words, "--run", "--jobs", "1"]) == 0
    assert len(Store(tmp_path).ids()) == 10
    capsys.readouterr()
    dispatch([*words, "--run"])
    assert "runs to make" not in capsys.readouterr().out
    dispatch(["plan", "3", "--tier", "smoke", "--json", "--results", str(tmp_path)])
    listed = json.loads(capsys.readouterr().out)
    assert {run["state"] for run in listed} == {"finished"}
    dispatch(["runs", "--where", "norm.alpha=0.1", "--json", "--results", str(tmp_path)])
    assert [run["norm.alpha"] for run in json.loads(capsys.readouterr().out)] == [0.1]


def test_a_part_of_a_table_is_made_and_the_table_written_whole(tmp_path, capsys):
    words = ["table", "3", "--tier", "smoke", "--results", str(tmp_path)]
    assert dispatch([*words, "--run", "--jobs", "1", "--row", "1", "--row", "0.[12]*"]) == 0
    assert {record.config["norm"].get("alpha") for record in Store(tmp_path).records()} == {1, 0.1, 0.25}
    assert "\n3,smoke,0.75," in (tmp_path / "smoke" / "table_03" / "table.csv").read_text()
    [sweep] = tmp_path.glob("sweeps/*/sweep.json")
    assert "--row 1 --row '0.[12]*'" in json.loads(sweep.read_text())["command"]


def test_a_part_is_of_what_run_makes(capsys, monkeypatch):
    assert "--row and --column choose the runs that --run makes" in complaint(
        capsys, monkeypatch, "table", "3", "--row", "1"
    )


def test_what_another_process_is_making_is_waited_for(tmp_path, monkeypatch):
    """Else the table would be written without it, and nobody would take it over from a holder that dies."""
    given = []
    monkeypatch.setattr("normtables.making.run_all", lambda jobs, workers, tell: given.extend(job.run for job in jobs))
    ids = list(plan(load(3), "smoke", Composer()).runs)
    with Store(tmp_path).claim(ids[0]):
        dispatch(["table", "3", "--tier", "smoke", "--run", "--results", str(tmp_path)])
    assert given == [*ids[1:], ids[0]]


def test_stale_lists_records_of_another_version(tmp_path, quick, capsys):
    dispatch(["run", *quick])
    words = ["plan", "--stale", "--results", str(tmp_path)]
    dispatch(words)
    assert "0 runs of an older version" in capsys.readouterr().out
    [path] = tmp_path.glob("runs/*/record.json")
    record = json.loads(path.read_text())
    record["config"]["norm"]["version"] = 0
    path.write_text(json.dumps(record))
    dispatch(words)
    assert f"{record['id']}  norm bn is of version 0, now 1" in capsys.readouterr().out


def test_a_plan_tells_what_decoded_images_take(tmp_path, capsys):
    dispatch(["plan", "1", "--tier", "paper", "--results", str(tmp_path)])
    assert capsys.readouterr().out.strip().endswith("up to 261.7 GB kept in the data root's .cache")
    dispatch(["plan", "1", "--tier", "smoke", "--results", str(tmp_path)])
    assert ".cache" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "rough", "said"),
    [
        ([60.0, 60.0], 0, "2 runs, 2 min on one worker; "),
        ([60.0, 60.0], 1, "2 runs, 2 min on one worker (1 judged by runs on other data or fits with other settings); "),
        (
            [60.0, None],
            0,
            "2 runs, 60 s on one worker for 1 of them, 1 of unknown length (`plan --measure` estimates); ",
        ),
        ([None, None], 0, "2 runs, 2 of unknown length (`plan --measure` estimates); "),
    ],
)
def test_a_plan_says_of_how_many_runs_it_knows_the_length(tmp_path, seconds, rough, said):
    from normtables.making import needs

    frame = pd.DataFrame({"state": "missing", "seconds": seconds, "rough": [bool(rough), False]})
    frame.loc[len(frame)] = ["finished", 0.0, False]
    assert needs(frame.astype({"seconds": float}), (0, 0), Store(tmp_path)).startswith(f"to run: {said}")


def test_long_plans_ask_first(monkeypatch):
    from normtables.making import confirm

    with pytest.raises(UserError, match="--yes"):
        confirm(7200.0, 0, "long", yes=False)
    with pytest.raises(UserError, match="--yes"):
        confirm(0.0, 2e9, "large", yes=False)
    confirm(7200.0, 2e9, "long", yes=True)
    confirm(60.0, 1e6, "short", yes=False)


@pytest.mark.parametrize(
    "words", [["--help"], ["plan", "3"], ["table", "3", "--tier", "smoke"], ["run", "--dry-run", "+sweep=table_03"]]
)
def test_commands_that_run_nothing_import_no_torch(words, tmp_path):
    code = "import sys; from normtables.__main__ import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules"
    results = {"--help": [], "run": [f"results={tmp_path}"]}.get(words[0], ["--results", str(tmp_path)])
    subprocess.run([sys.executable, "-c", code, *words, *results], check=True, capture_output=True)
