"""What every test may ask for; one thread per process, as in the runs themselves."""

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch

import pytest

from normtables.config import Composer
from normtables.places import ROOT

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
