"""The Makefile, the pinned versions and the CI script, with a Python that only writes down what it is asked."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    *("help", "setup", "reproduce-table-N", "reproduce", "test", "test-slurm", "lint", "dashboard", "bench", "docs"),
    *("check-reliability", "clean"),
}
TESTS = "-m pytest -n logical --maxprocesses 4 --dist loadfile"
OPTIONS = (
    "TIER",
    "ROW",
    "COLUMN",
    "JOBS",
    "LAUNCHER",
    "RESULTS",
    "YES",
    "PYTHON",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "MFLAGS",
)

# Notes its arguments, one line a call, and leaves what CI looks for; table N ends with the status in the file fail_N.
FAKE = """#!/bin/sh
printf '<%s>' "$@" >> "$LOG"; echo >> "$LOG"
case "$*" in
    *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;;
    *"-m normtables table"*)
        number=$4
        while [ $# -gt 0 ]; do if [ "$1" = --results ]; then results=$2; fi; shift; done
        if [ -n "$results" ]; then mkdir -p "$results/smoke/table_03"; echo x > "$results/smoke/table_03/table.md"; fi
        if [ -f "fail_$number" ]; then echo "normtables: no" >&2; exit "$(cat "fail_$number")"; fi;;
esac
"""


class Checkout:
    """A folder with the Makefile, table files, and a fake environment."""

    def __init__(self, folder):
        self.folder, self.log = folder, folder / "log.txt"
        (folder / "experiments").mkdir(parents=True)
        (folder / "results").mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder / name)
        self.tool(".venv/bin/python")
        (folder / ".venv" / ".ready").touch()
        self.table(3, "true")

    def tool(self, path, text=FAKE):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def table(self, number, runnable):
        path = self.folder / "experiments" / f"table_{number:02d}.yaml"
        path.write_text(f"table: {number}\nrunnable: {runnable}\n")

    def run(self, *words, **environment):
        kept = {k: v for k, v in os.environ.items() if k not in OPTIONS} | {"LOG": str(self.log)} | environment
        return subprocess.run(words, cwd=self.folder, env=kept, capture_output=True, text=True, check=False)

    def make(self, *words, **environment):
        return self.run("make", *words, **environment)

    def calls(self):
        """What Python was asked since the last look."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path / "a checkout")


def words(text):
    return "".join(f"<{word}>" for word in text.split())


def test_help_is_the_default_and_lists_every_target_in_a_line_each(checkout):
    done = checkout.make()
    assert done.returncode == 0
    assert done.stdout == checkout.make("help").stdout
    assert {line.split()[0] for line in done.stdout.splitlines()} == TARGETS
    [phony] = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    names = {re.sub(r"-\d+$", "-N", name) for name in phony.replace("\\", "").split()}
    assert names == TARGETS
    assert [f"reproduce-table-{n}" in phony.split() for n in range(13)] == [False, *[True] * 11, False]


def test_a_table_is_run_with_the_laptop_tier_and_nothing_else_by_default(checkout):
    assert checkout.make("reproduce-table-3").returncode == 0
    assert checkout.calls() == [words("-m normtables table 3 --run --tier laptop")]


def test_options_are_handed_on_when_given_whole(checkout):
    given = ("TIER=smoke", "JOBS=2", "LAUNCHER=joblib", "RESULTS=my own results", "YES=1", "ROW=all *", "COLUMN=a b")
    assert checkout.make("-n", "reproduce-table-3").returncode == 0
    assert checkout.calls() == []
    checkout.make("reproduce-table-3", *given, RESULTS="overruled")
    plain = words("-m normtables table 3 --run --tier smoke --jobs 2 --launcher joblib --results")
    assert checkout.calls() == [plain + "<my own results><--yes><--row><all *><--column><a b>"]


def test_options_can_come_from_the_environment(checkout):
    checkout.make("reproduce-table-3", TIER="smoke", JOBS="0")
    assert checkout.calls() == [words("-m normtables table 3 --run --tier smoke --jobs 0")]


def test_the_exit_status_of_the_program_is_makes(checkout):
    (checkout.folder / "fail_3").write_text("2")
    done = checkout.make("reproduce-table-3", "JOBS=0")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "normtables: no"


@pytest.mark.parametrize("ready", [True, False])
def test_a_table_without_a_file_says_so_before_anything_is_installed(checkout, ready):
    if not ready:
        shutil.rmtree(checkout.folder / ".venv")
    done = checkout.make("reproduce-table-11", PYTHON=str(checkout.tool("python")))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "table 11 does not exist yet: there is no experiments/table_11.yaml"
    assert checkout.calls() == []


@pytest.mark.parametrize("target", ["reproduce-table-12", "reproduce-table-0", "reproduce-table-", "tset"])
def test_an_unknown_target_is_refused_in_a_line(checkout, target):
    done = checkout.make(target)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"there is no target '{target}'; make help lists what there is"


def test_reproduce_goes_on_after_a_failure_and_tells_at_the_end(checkout):
    for number, runnable in ((1, "true"), (2, "false"), (10, "true"), (11, "true")):
        checkout.table(number, runnable)
    (checkout.folder / "fail_1").write_text("1")
    done = checkout.make("reproduce", "TIER=smoke")
    assert done.returncode == 2  # make's own status for any failure
    assert checkout.calls() == [words(f"-m normtables table {n} --run --tier smoke") for n in (1, 3, 10)]
    assert done.stdout.splitlines()[-1] == "tables made: 3 10; failed: 1; not runnable yet: 2 4 5 6 7 8 9"
    (checkout.folder / "fail_1").unlink()
    assert checkout.make("reproduce").returncode == 0


def test_reproduce_stops_at_ctrl_c(checkout):
    checkout.table(10, "true")
    (checkout.folder / "fail_3").write_text("130")
    assert checkout.make("reproduce").returncode == 2
    assert len(checkout.calls()) == 1


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("test", [TESTS]),
        ("lint", ["-m ruff check .", "-m ruff format --check .", "-m mypy"]),
        ("dashboard", ["-m normtables dashboard"]),
        (
            "bench",
            [f"scripts/bench_{what}.py" for what in ("trainer", "norms", "images", "tabular", "lstm", "dqn", "store")],
        ),
        ("check-reliability", ["scripts/check_reliability.py"]),
        ("docs", ["scripts/list_methods.py"]),
        ("reproduce-table-3", ["-m normtables table 3 --run --tier laptop"]),
        ("reproduce", ["-m normtables table 3 --run --tier laptop", "-m normtables report"]),
    ],
)
def test_each_command_works_as_the_first_one(checkout, target, asked):
    """A missing environment is made and filled first; with one, nothing is installed."""
    shutil.rmtree(checkout.folder / ".venv")
    done = checkout.make(target, PYTHON=str(checkout.tool("python")))
    assert done.returncode == 0, done.stderr
    install = words("-m pip install -c constraints.txt -e .[sweep,dev]")
    first = checkout.calls()
    assert words("-m venv --clear .venv") in first
    assert first[first.index(install) + 1 :] == [words(text) for text in asked]
    checkout.make(target)
    assert checkout.calls() == [words(text) for text in asked]


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_new_requirements_are_installed_into_the_same_environment(checkout, changed):
    newer = (checkout.folder / ".venv" / ".ready").stat().st_mtime + 10
    os.utime(checkout.folder / changed, (newer, newer))
    assert checkout.make("setup").returncode == 0
    calls = checkout.calls()
    assert words("-m pip install -c constraints.txt -e .[sweep,dev]") in calls
    assert not any("<venv>" in call for call in calls)


def test_setup_takes_the_newest_python_that_works(checkout):
    shutil.rmtree(checkout.folder / ".venv")
    tools = checkout.folder / "tools"
    checkout.tool(tools / "python3.13", "#!/bin/sh\necho 'no such version' >&2; exit 127\n")
    for version in ("3.12", "3.11"):
        checkout.tool(tools / f"python{version}", FAKE.replace("printf '", f"printf '{version} "))
    done = checkout.make("setup", PATH=f"{tools}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert next(call for call in checkout.calls() if "<venv>" in call).startswith("3.12 ")
    assert "no such version" not in done.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\nexit 1\n", "normtables needs Python 3.11 or newer, tried: {}; install one"),
        ("#!/bin/sh\ncase $2 in *venv*) exit 1;; esac\n", "{} lacks the venv module; install it (Debian and Ubuntu:"),
    ],
)
def test_setup_says_what_is_missing(checkout, script, said):
    shutil.rmtree(checkout.folder / ".venv")
    python = checkout.tool("python", script)
    done = checkout.make("test", PYTHON=str(python))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith(said.format(python))
    assert not (checkout.folder / ".venv").exists()


def test_an_install_that_failed_is_tried_again(checkout):
    (checkout.folder / ".venv" / ".ready").unlink()
    checkout.tool(".venv/bin/python", '#!/bin/sh\ncase "$*" in *install*) echo x >> "$LOG"; exit 1;; esac\n')
    assert [checkout.make("test").returncode for _ in range(2)] == [2, 2]
    assert checkout.calls() == ["x", "x"]


def test_clean_leaves_results_and_the_environment(checkout):
    kept = [checkout.folder / "results" / "runs.csv", checkout.folder / ".venv" / "bin" / "python"]
    caches = ("src/x/__pycache__", "tests/__pycache__", "scripts/__pycache__", ".mypy_cache")
    gone = [checkout.folder / name for name in caches]
    kept[0].write_text("id\n")
    for folder in gone:
        folder.mkdir(parents=True)
    assert checkout.make("clean").returncode == 0
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_constraints_are_plain_names_and_versions():
    """No hosts, hashes or builds of one index: any mirror will do."""
    assert [line for line in pins() if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)] == []


def test_every_dependency_is_pinned_to_a_version_that_pyproject_accepts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    pinned = dict(line.split("==") for line in pins())
    for text in (*project["dependencies"], *extras["sweep"], *extras["dev"]):
        need = Requirement(text)
        name = canonicalize_name(need.name)
        assert name in pinned, f"{text}: add it to constraints.txt"
        assert need.specifier.contains(pinned[name]), f"{text}: constraints.txt has {pinned[name]}"


def test_ci_runs_tests_lint_and_the_smoke_tier_of_runnable_tables(checkout):
    checkout.table(4, "false")
    checkout.folder.joinpath(".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", checkout.folder / ".ci" / "run")
    browser = checkout.tool("tools/chromium")  # else it would be installed here
    path = {"PATH": f"{browser.parent}:{os.environ['PATH']}"}
    done = checkout.run(".ci/run", **path)
    assert done.returncode == 0, done.stderr
    calls = checkout.calls()
    assert calls[:4] == [words(t) for t in (TESTS, "-m ruff check .", "-m ruff format --check .", "-m mypy")]
    assert calls[4].startswith(words("-m normtables table 3 --run --tier smoke --results") + "</")
    assert len(calls) == 5
    assert str(checkout.folder) not in calls[4]
    (checkout.folder / "fail_3").write_text("1")
    done = checkout.run(".ci/run", **path)
    assert done.returncode == 1
    assert re.search(r"^make test +ok", done.stdout, re.MULTILINE)
    assert re.search(r"^table_03, smoke +FAILED 2", done.stdout, re.MULTILINE)
