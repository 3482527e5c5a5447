"""What every test may ask for; one thread per process, as in the runs themselves."""

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

import pytest

from normtables.config import Composer
from normtables.places import ROOT
from normtables.records import Store

SMALL = {"norm": "none", "model.widths": [8], "budget": "4steps", "evaluate": "2steps", "batch_size": 20}


@pytest.fixture(autouse=True)
def _one_thread():
    """A test may train with other settings; the next one starts from these."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(False)
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared():
    """The developers' folder beside the checkout, or NORMTABLES_SHARED."""
    folder = Path(os.environ.get("NORMTABLES_SHARED") or ROOT.parent / "shared")
    return folder if folder.is_dir() else pytest.skip(f"no folder {folder}: developers and CI have it")


@pytest.fixture(scope="session")
def composer():
    """Settings to configurations, with everything composed so far."""
    return Composer()


@pytest.fixture
def results(tmp_path):
    """A folder of results of this test's own; it does not exist yet."""
    return tmp_path / "results"


@pytest.fixture
def small(composer, results):
    """Configurations of runs that take milliseconds: a small network, four updates on digits."""

    def make(**settings):
        named = {key.replace("__", "."): value for key, value in settings.items()}
        return composer.config(SMALL | {"results": str(results)} | named)

    return make


@pytest.fixture
def cut_off():
    """Makes a run that is stopped, as by Ctrl-C, behind the row of update `step`, or behind its `row`-th row."""

    def make(cfg, step=None, row=None):
        from normtables.training.run import execute

        rows = []

        def interrupt(name, at, *_):
            rows.append(at)
            if at == step or len(rows) == row:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(cfg, interrupt)

    return make


def same_run(whole, torn):
    """Both folders hold the same run, finished, to the last bit; its record and its rows without their seconds."""
    stores = [Store(cfg.results) for cfg in (whole, torn)]
    [run] = stores[1].ids()
    record, other = (store.read(run) for store in stores)
    assert (record.status, other.status) == ("finished", "finished")
    assert other.facts["weights"] == record.facts["weights"]
    rows, others = ([{k: v for k, v in r.items() if k != "seconds"} for r in store.history(run)] for store in stores)
    assert repr((rows, record.final)) == repr((others, other.final))  # nan is nan
    return record, rows


@pytest.fixture
def same_in_two_parts(cut_off):
    """Makes a run, and the same one in another folder stopped (see cut_off) and taken up again; see same_run."""

    def make(whole, torn, **moment):
        from normtables.training.run import execute

        execute(whole)
        cut_off(torn, **moment)
        execute(torn)
        return same_run(whole, torn)

    return make


@pytest.fixture(name="same_run")
def same_run_fixture():
    """The function for tests that look at a run between its two parts."""
    return same_run
