"""The golden sweep of tests/golden, planned and collected."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from normtables.records import Store
from normtables.tables import claims, collect, plan, sources, spec

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


class PlainComposer:
    """Stands in for config.Composer: knows a norm, a data set and a seed, so that new defaults change no id here."""

    def config(self, settings):
        return OmegaConf.create(
            {
                "norm": {"name": settings.get("norm", "none"), "way": settings.get("norm.way", "printed")},
                "dataset": {"name": settings.get("dataset", "written")},
                "budget": "3epochs",
                "evaluate": "1epoch",
                "seeds": {"weights": settings.get("seed", 0)},
                "batch_statistics": "synchronised",
                "processes": 1,
            }
        )


def collected(tier):
    """Everything that `report.write` is given."""
    store = Store(GOLDEN)
    planned = plan.plan(spec.load(GOLDEN / "table.yaml"), tier, PlainComposer())
    found = sources.Sources(planned, store)
    return SimpleNamespace(
        plan=planned,
        table=collect.collect(found),
        claims=claims.judge(found, collect.samples(found)),
        readings=collect.readings(found),
        sources=found,
    )


@pytest.fixture(scope="session")
def laptop():
    return collected("laptop")


@pytest.fixture(scope="session")
def smoke():
    return collected("smoke")
