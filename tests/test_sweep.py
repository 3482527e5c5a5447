"""`normtables run -m`: grids, sweep files and tables to runs, their folders, and what every launcher makes of them."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pandas as pd
import pytest
from omegaconf import OmegaConf

from normtables.__main__ import dispatch
from normtables.config import Composer, run_id
from normtables.errors import UserError
from normtables.places import CONF, EXPERIMENTS, ROOT
from normtables.records import Record, Store
from normtables.report import manifest
from normtables.report.site.sweeps import Sweeps
from normtables.sweep import Chosen, Point, Unfinished, places, planned, sweep
from normtables.tables.plan import plan
from normtables.tables.spec import load
from normtables.words import grid, read

TABLES = sorted(path.stem for path in EXPERIMENTS.glob("table_*.yaml"))


@pytest.fixture
def quick(tmp_path):
    return [f"results={tmp_path}", "model.widths=[8]", "budget=2epochs"]


@pytest.fixture
def mine(tmp_path):
    """A user's own folder of configurations; writes sweep files there: their words on the command line."""

    def write(text, name="mine"):
        folder = tmp_path / "own" / "sweep"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
        return [f"+sweep={name}", "--conf-dir", str(tmp_path / "own")]

    return write


@pytest.fixture
def chosen(composer):
    """The runs that these words ask for."""

    def runs(*words):
        asked = read(words)
        return planned(asked, Composer(asked.folders) if asked.folders else composer)

    return runs


def changed(folder):
    """When each record was written."""
    return {p: p.stat().st_mtime_ns for p in folder.glob("runs/*/record.json")}


def test_a_sweep_runs_every_combination_once_and_summarises(tmp_path, quick, capsys):
    words = ["run", "-m", "norm=none,bn", "seed=0,1", "optim.lr=0.1", *quick]
    dispatch(words)
    frame = pd.read_csv(next(tmp_path.glob("sweeps/*/sweep.csv")))
    assert list(frame) == ["id", "status", "norm", "seed", "score", "best", "last", "seconds"]
    assert sorted(zip(frame["norm"], frame["seed"])) == [("bn", 0), ("bn", 1), ("none", 0), ("none", 1)]
    assert (frame["status"] == "finished").all()
    folder = next(tmp_path.glob("sweeps/*"))
    assert {"sweep.md", "figure.png", "figure.svg"} <= {p.name for p in folder.iterdir()}
    before = changed(tmp_path)
    capsys.readouterr()
    dispatch(words)
    assert "4 runs, 4 of them done already" in capsys.readouterr().out
    assert before == changed(tmp_path)
    dispatch([*words[:3], "seed=0,1,2", *words[4:]])  # a wider grid
    assert before.items() < changed(tmp_path).items()
    assert len(changed(tmp_path)) == 6


def test_grid_takes_lists_ranges_and_globs():
    composer = Composer()
    points = grid(["norm=glob(*,exclude=d*)", "seed=range(0,2)", "norm.alpha='1/m^2'"], composer)
    assert {p["norm"] for p in points} == {name for name in composer.choices("norm") if name[0] != "d"}
    assert {p["seed"] for p in points} == {0, 1}
    assert {p["norm.alpha"] for p in points} == {"1/m^2"}


def test_words_are_settings_or_hydras_or_ours():
    words = [
        "-m",
        "norm=bn",
        "hydra/launcher=joblib",
        "+hydra.x=1",
        "+sweep=a",
        "--conf-dir",
        "/b",
        "--dry-run",
        "+x=1",
    ]
    asked = read(words)
    assert (asked.settings, asked.hydra) == (("norm=bn", "+x=1"), ("hydra/launcher=joblib", "+hydra.x=1"))
    assert (asked.sweep, asked.folders, asked.many, asked.dry) == ("a", ("/b",), True, True)
    assert read(["--cfg", "job", "norm=bn"]).hydra == ("--cfg", "job")
    assert (read(["norm=bn"]).many, read(["+sweep=a"]).many) == (False, True)


@pytest.mark.parametrize("name", TABLES)
def test_the_sweep_of_a_table_has_exactly_the_runs_of_its_plan(name, composer, chosen):
    runs = chosen(f"+sweep={name}", "tier=smoke")
    assert sorted(runs) == sorted(plan(load(int(name[-2:])), "smoke", composer).runs)
    assert len({run.label for run in runs.values()}) == len(runs)


def test_every_table_of_the_survey_has_a_sweep():
    assert [f"table_{number:02}" for number in range(1, 12)] == TABLES


def test_runs_are_called_by_their_name_and_the_settings_in_which_they_differ():
    a, b = {"norm": "bn", "seed": 0}, {"norm": "bn", "seed": 1}
    assert places({"a": Point("", a, a), "b": Point("", b, b)}) == {"a": {"seed": 0}, "b": {"seed": 1}}
    c = {"x": 1}
    found = places({"a": Point("one", a, a), "b": Point("two", b, b), "c": Point("two", c, c)})
    assert [Chosen({}, {}, place).label for place in found.values()] == ["one, seed=0", "two, seed=1", "two"]


def test_settings_on_top_of_a_table_are_combined_with_its_runs(composer, chosen):
    words = ["+sweep=table_03", "tier=smoke", "norm.alpha=0.1,1", "seed=5,6"]
    runs = chosen(*words)
    seeds = sorted((run.config.norm.alpha, run.config.seeds.weights) for run in runs.values())
    assert seeds == [(0.1, 5), (0.1, 6), (1, 5), (1, 6)]
    both = chosen("+sweep=table_03", "tier=smoke,laptop")
    assert sorted(both) == sorted({*plan(load(3), "smoke", composer).runs, *plan(load(3), "laptop", composer).runs})


PAIRED = """
fixed: {model.widths: [8], budget: 2steps, evaluate: 1step}
rows:
  bn: {set: {norm: bn, optim.lr: 0.08}}
  plain: {set: {norm: none, optim.lr: 0.008}}
  dbn: {set: {norm: dbn}, over: {norm.alpha: [0.1, 1]}}
repeat: {seed: [0, 1]}
"""


def test_a_sweep_file_of_ones_own_is_run_with_settings_on_top(mine, tmp_path, capsys):
    words = ["run", "-m", *mine(PAIRED), f"results={tmp_path}", "batch_size=10,20", "seed=1"]
    dispatch(words)
    found = {
        (c["norm"]["name"], c["optim"]["lr"], c["norm"].get("alpha"), c["batch_size"], c["seeds"]["weights"])
        for c in (record.config for record in Store(tmp_path).records())
    }
    rows = [("bn", 0.08, None), ("none", 0.008, None), ("dbn", 0.1, 0.1), ("dbn", 0.1, 1)]
    assert found == {(*row, size, 1) for row, size in itertools.product(rows, (10, 20))}
    [folder] = tmp_path.glob("sweeps/mine_*")
    told = {wanted.label for wanted in manifest.read(folder).runs.values()}
    assert {"bn, batch_size=10", "dbn, norm.alpha=0.1, batch_size=20"} < told
    capsys.readouterr()
    dispatch(words)
    assert "8 runs, 8 of them done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rows: {a b: {set: {norm: bn, norm.alpha: 1}}}", "mine: a b: norm has no setting 'alpha'"),
        ("rows: {a b: {set: {norm: bnn}}}", "mine: a b: no norm 'bnn'; did you mean 'bn'?"),
        ("fixed: {batch_size: many}", "mine: batch_size=many"),
        ("over: {optm.lr: [1]}", "mine: the configuration has no setting 'optm'; did you mean 'optim'?"),
    ],
)
def test_what_no_run_can_have_is_told_with_the_row(mine, chosen, text, says):
    with pytest.raises(UserError) as error:
        chosen(*mine(text))
    assert says in str(error.value)


def test_the_committed_sweep_files_make_runs(chosen):
    for path in (CONF / "sweep").glob("*.yaml"):
        runs = chosen(f"+sweep={path.stem}", "tier=smoke")
        assert len({run.label for run in runs.values()}) == len(runs) > 1


def test_the_example_of_the_docs_is_right(mine, chosen):
    text = (ROOT / "docs" / "sweeps.md").read_text().split("```yaml\n")[1].split("```")[0]
    small, large = (
        [run.label for run in chosen(*mine(text)).values() if f", {column}, " in run.label]
        for column in ("small", "large")
    )
    assert {label.split(",")[0] for label in small} == {"none", "bn"}
    assert (len(small), len(large)) == (2 * 6, (1 + 1 + 4) * 2 * 6)


def test_linear_scaling_keeps_the_rate_per_example_and_is_as_long_as_it_says(chosen):
    runs = chosen("+sweep=linear_scaling")
    assert f"{len(runs)} runs" in (CONF / "sweep" / "linear_scaling.yaml").read_text()
    configs = [run.config for run in runs.values()]
    assert {round(cfg.optim.lr / cfg.batch_size, 9) for cfg in configs} == {0.0025}
    assert {cfg.norm.name for cfg in configs if cfg.batch_size == 20} == {"none", "bn", "gn"}
    assert {cfg.norm.groups for cfg in configs if cfg.norm.name == "gn"} == {1, 10}
    assert {cfg.norm.ghost for cfg in configs if cfg.norm.name == "bn"} == {0, 20}


def test_a_dry_run_lists_states_and_touches_nothing(tmp_path, quick, capsys, chosen):
    grid_of_two = ["run", "-m", "norm=none,bn", *quick]
    dispatch([*grid_of_two, "--dry-run"])
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out.splitlines()[0] == "2 runs: 2 missing"
    dispatch(["run", "norm=bn", *quick])
    runs = chosen(*grid_of_two[1:])
    [free, done] = runs
    store = Store(tmp_path)
    store.folder(free).mkdir()
    before = sorted(tmp_path.rglob("*")), changed(tmp_path)
    for file, state in ((None, "missing"), ("checkpoint.pt", "interrupted")):
        if file:
            (store.folder(free) / file).touch()
            before[0].append(store.folder(free) / file)
        capsys.readouterr()
        dispatch([*grid_of_two, "--dry-run"])
        assert capsys.readouterr().out.splitlines() == [
            f"2 runs: 1 {state}, 1 finished",
            f"{free}  {state:<11}  norm=none",
            f"{done}  finished     norm=bn",
        ]
    with store.claim(free):
        capsys.readouterr()
        dispatch(["run", "--dry-run", "norm=none", *quick])
        assert capsys.readouterr().out.splitlines() == ["1 runs: 1 running", f"{free}  running"]
    assert (sorted(tmp_path.rglob("*")), changed(tmp_path)) == (sorted(before[0]), before[1])


def test_other_arguments_have_another_folder_and_the_same_ones_the_same(mine, tmp_path):
    own = mine(PAIRED)
    titles = [
        read(words).title
        for words in (
            ["+sweep=table_03"],
            ["+sweep=table_03", "tier=smoke"],
            ["+sweep=table_03", "tier=short"],
            ["norm=bn,none"],
            ["norm=bn,ln"],
            own,
            [*own, "seed=1"],
            [*own[:2], str(tmp_path)],
        )
    ]
    assert len(set(titles)) == len(titles)
    assert titles[0] == "table_03"
    assert all(title.startswith("table_03_") for title in titles[1:3])
    a = ["norm=bn,none", "-m", "seed=1", "results=here", "hydra/launcher=joblib"]
    assert read(a).title == read(["seed=1", "--multirun", "norm=bn,none"]).title
    assert read(["seed=1", "seed=2"]).title != read(["seed=2", "seed=1"]).title  # the last one counts


def test_two_sweeps_of_one_file_are_both_kept_and_shown(mine, tmp_path):
    commands = [["run", "-m", *mine(PAIRED), f"results={tmp_path}", f"seed={seed}"] for seed in (0, 1)]
    for words in commands:
        dispatch(words)
    view = Sweeps(tmp_path)
    assert view.look()
    shown = view.all({})
    assert {found["command"] for found in shown} == {" ".join(["normtables", *words]) for words in commands}
    assert [found["counts"]["waiting"] for found in shown] == [4, 4]  # of runs that this view was not given
    for found in shown:
        folder = tmp_path / "sweeps" / found["name"]
        frozen = {path.stem for path in (folder / "configs").iterdir()}
        assert set(manifest.read(folder).runs) == frozen == set(pd.read_csv(folder / "sweep.csv")["id"])


def test_a_failed_job_costs_itself_and_names_its_command(tmp_path, quick):
    with pytest.raises(Unfinished) as failed:
        dispatch(["run", "-m", "optim.lr=-1,0.1,-2", *quick])
    assert [record.status for record in Store(tmp_path).records()] == ["finished"]
    first, *lines = str(failed.value).splitlines()
    assert (first, len(lines)) == ("2 runs failed:", 4)
    for line, command in zip(lines[::2], lines[1::2]):
        assert "a number above 0" in line
        again = command.split()
        assert again[:3] == ["again:", "normtables", "run"]
        with pytest.raises(UserError, match="above 0"):
            dispatch(again[2:])


def test_words_come_through_hydra_as_they_are(tmp_path, quick):
    words = [
        "norm=dbn",
        "norm.alpha='1/m^2'",
        "data.root='it\\'s a\\b'",
        "batch_size=7",
        "seeds.data=${batch_size}",
        *quick,
    ]
    dispatch(["run", "-m", *words])
    [frozen] = tmp_path.glob(f"sweeps/{read(words).title}/configs/*.yaml")
    found = OmegaConf.load(frozen)
    assert (found.norm.alpha, found.data.root, found.seeds.data) == ("1/m^2", "it's a\\b", 7)


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_is_being_made_elsewhere_is_waited_for(tmp_path, quick, chosen, capsys, monkeypatch, finished):
    """It is taken from there, or made here where the other process is gone without it."""
    [run], store, pauses = chosen("norm=bn", *quick), Store(tmp_path), []
    other = contextlib.ExitStack()
    other.enter_context(store.claim(run))

    def pause(seconds):
        pauses.append([record.config["norm"]["name"] for record in store.records()])
        assert not (store.folder(run) / "history.csv").exists()
        if len(pauses) == 3:
            if finished:
                store.write(Record(run, "finished", "", {"norm": {"name": "its"}}))
            other.close()

    monkeypatch.setattr("normtables.sweep.time.sleep", pause)
    with other:
        dispatch(["run", "-m", "norm=bn,none", *quick])
    assert pauses == [["none"]] * 3
    assert f"waiting for another process, which is at {run}" in capsys.readouterr().out
    assert {record.config["norm"]["name"] for record in store.records()} == {"its" if finished else "bn", "none"}


def test_the_same_id_twice_in_a_grid_is_one_run(tmp_path, quick, chosen):
    assert len(chosen("-m", "optim.lr=0.1,0.10,1e-1", "runtime.threads=1,2", *quick)) == 1


class Broken:
    """A launcher that gives up once it has made the first run."""

    def launch(self, jobs, first):
        dispatch(["run", *jobs[0]])
        Store(self.results).folder(self.failed).mkdir(parents=True)
        raise RuntimeError("no place\nfor the rest")


def test_what_a_launcher_leaves_undone_is_listed_with_what_is_known(tmp_path, quick, chosen):
    words = ["norm=none,bn,gn", *quick]
    done, running, missing = chosen(*words)
    launcher = Broken()
    launcher.results, launcher.failed = tmp_path, missing
    with Store(tmp_path).claim(running), pytest.raises(Unfinished) as failed:
        sweep(words, None, launcher)
    lines = str(failed.value).splitlines()
    assert lines[0] == "2 runs failed:"
    assert lines[1] == f"{running}: it is still running; the same command collects it later"
    assert lines[3] == f"{missing}: RuntimeError: no place for the rest"
    assert Store(tmp_path).state(done) == "finished"


EDITING = """
import sys
from pathlib import Path
from normtables.__main__ import dispatch
from normtables.places import CONF
import normtables.training.run as made

execute = made.execute

def then_edit(cfg, *rest):
    found = execute(cfg, *rest)
    for path in CONF.rglob("*.yaml"):
        path.write_text("broken: [")
    return found

made.execute = then_edit
dispatch(sys.argv[1:])
"""


def test_an_edit_of_conf_during_a_sweep_changes_nothing(tmp_path, quick, chosen):
    """All of conf/ in a copy of the checkout becomes unreadable as soon as the first of three runs is made."""
    place = tmp_path / "copy"
    shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(CONF, place / "conf")
    words = ["-m", "norm=none,bn", "optim.lr=0.1,0.2", *quick]
    env = os.environ | {"PYTHONPATH": str(place / "src")}
    subprocess.run([sys.executable, "-c", EDITING, "run", *words], check=True, env=env, capture_output=True)
    assert (place / "conf" / "config.yaml").read_text() == "broken: ["
    assert Store(tmp_path).ids() == sorted(chosen(*words))


LAUNCHERS = [
    pytest.param((), id="basic"),
    pytest.param(
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        marks=pytest.mark.skipif(not find_spec("hydra_plugins.hydra_joblib_launcher"), reason="the extra sweep"),
        id="joblib",
    ),
    pytest.param(
        ("hydra/launcher=submitit_local",),
        marks=pytest.mark.skipif(not find_spec("hydra_plugins.hydra_submitit_launcher"), reason="the extra slurm"),
        id="submitit_local",
    ),
]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_makes_what_is_missing_and_a_failure_costs_itself(tmp_path, quick, launcher, capsys):
    import torch  # as in a process that has made runs: it must not be pickled

    assert torch
    words = ["run", "-m", "optim.lr=0.1,-1,0.2", *quick, *launcher]
    dispatch(["run", "optim.lr=0.1", *quick])
    before = changed(tmp_path)
    capsys.readouterr()
    with pytest.raises(Unfinished) as failed:
        dispatch(words)
    assert "3 runs, 1 of them done already" in capsys.readouterr().out
    assert str(failed.value).count("again: normtables run frozen=") == 1
    assert "optim.lr=-1: a number above 0" in str(failed.value)
    assert before.items() < changed(tmp_path).items()
    assert len(changed(tmp_path)) == 2
    [folder] = tmp_path.glob("sweeps/*")
    assert json.loads((folder / manifest.MANIFEST).read_text())["command"].endswith(" ".join(launcher))


@pytest.mark.skipif(not find_spec("hydra_plugins.hydra_joblib_launcher"), reason="the extra sweep")
def test_a_killed_worker_is_told_and_what_is_done_is_kept(tmp_path, quick, chosen):
    words = ["run", "-m", "budget=100000epochs,2epochs,3epochs", *quick[:2], "hydra/launcher=joblib"]
    command = [sys.executable, "-m", "normtables", *words, "hydra.launcher.n_jobs=2"]
    endless, *others = chosen(*words[1:])
    store = Store(tmp_path)
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            until = time.monotonic() + 300
            while not (store.folder(endless) / "history.csv").exists() or store.state(others[1]) != "finished":
                assert time.monotonic() < until
                time.sleep(0.05)
            os.kill(json.loads((store.folder(endless) / "claim").read_text())["pid"], signal.SIGKILL)
            told = process.communicate(timeout=300)[1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert process.returncode == 1
    assert "normtables: 1 runs failed:" in told
    assert f"{endless}: TerminatedWorkerError: A worker process" in told
    assert "SIGKILL" in told
    assert store.state(endless) in ("missing", "interrupted")
    assert [store.state(run) for run in others] == ["finished", "finished"]


def test_what_is_pickled_for_a_job_brings_no_torch():
    """Launchers pickle the job by value, and with it what its module imports."""
    cloudpickle = pytest.importorskip("cloudpickle")
    from normtables.door import job

    code = "import pickle, sys; pickle.load(sys.stdin.buffer); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], input=cloudpickle.dumps(job.__wrapped__), check=True)


def test_jobs_get_frozen_configurations_of_these_runs(tmp_path, chosen):
    class Launcher:
        def launch(self, jobs, first):
            self.asked = [OmegaConf.load(words[0].removeprefix("frozen=")) for words in jobs]
            return []

    launcher, words = Launcher(), ["+sweep=table_03", "tier=smoke", f"results={tmp_path}"]
    sweep(words, None, launcher)
    assert sorted(map(run_id, launcher.asked)) == sorted(chosen(*words))
