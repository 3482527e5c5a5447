"""A stored sweep of 25 small records must give exactly the tables that were checked by hand.

tests/golden holds the table file, the records and `expected`. Everything that can happen to a cell happens in it:
finished (bn, none), diverged (ln), missing (wn: n = 1), failed (gn), quoted (SVM), a stand-in column, a goal that is
not reached (none), a validation-best epoch that is not the test-best one (bn), two readings of the source.

How `expected` was verified, with t(2) = 4.302653 and t(4) = 2.776445 for 95 % intervals:

error %, bn: the test errors of the three seeds fall to 10, 11, 12: mean 11, sd 1, interval 11 -+ 4.302653 / sqrt(3) =
    [8.515862, 13.484138]. On validation the best epochs are 2, 3, 3, where the test error is 12, 12, 12.
epochs, bn: best on test at 3, 2, 3: mean 2.666667, sd sqrt(1/3) = 0.577350; validation-best: 2, 3, 3, likewise.
steps to 20 %, bn: valid/error first at or below 20 at steps 20, 20, 10. none: 24, 21 and 20: only the third reaches it.
gn: one of three runs crashed: no mean over the two that did not (17 and 18).
spoken error %: bn 30, 30, 30 and none 40, 42, 44: mean 42, sd 2.

G1, error: 21 - 11 = 10, standard error sqrt(1/3 + 1/3) = 0.816497, 4 degrees of freedom, interval 10 -+ 2.266955; t =
    12.2474, p = 0.000127 from the closed form of t(4). Speech: 42 - 30 = 12, standard error 2 / sqrt(3) = 1.154701, 2
    degrees of freedom, interval 12 -+ 4.968275, t = 10.3923, p = (1 - t / sqrt(2 + t^2)) / 2 = 0.004566.
G2, G7: the same ten points the wrong way round; p = 1 but for the sixth digit.
G5: no spread and no distance: p = 0.
G6: the runs of none stop at 30 (two of them unfinished): 30 - 16.666667 = 13.333333, standard error 10/3, t = 4, p =
    (1 - 4 / sqrt(18)) / 2 = 0.028595.
Holm over these six: 0 * 6, 0.000127 * 5 = 0.00064, 0.004566 * 4 = 0.018, 0.028595 * 3 = 0.086, 1, 1.
G3, G8: one of three diverged. G4: wn lacks two of nine runs. G9: 21 is far below the 50 of a guess, 42 is above its 40.

Readings, against 10.5, 20 and 14: as printed 11.5, 19, 15, so distance 1 and the same order; the other way 11, 20.1,
    21, so (0.5 + 0.1 + 7) / 3 = 2.533333, without none (0.5 + 7) / 2 = 3.75, Spearman 1 - 6 * 2 / 24 = 0.5, Kendall
    (2 - 1) / 3.
"""

import json
from pathlib import Path

import pytest

from normtables import report
from normtables.tables import trials

EXPECTED = Path(__file__).resolve().parents[1] / "golden" / "expected"


def test_every_stored_run_is_planned(laptop):
    """Ids are made of settings: had their making changed, the records of every finished sweep would be lost."""
    stored = {record.id for record in laptop.sources.store.records()}
    missing = {"6427f96a9fdc", "0c468182d12c"}  # wn, seeds 1 and 2
    assert set(laptop.plan.runs) == stored | missing
    assert len(stored) == 25


@pytest.fixture(scope="module")
def written(laptop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    report.write(laptop.sources, laptop.table, laptop.claims, laptop.readings, folder)
    return folder


@pytest.mark.parametrize("name", ["table.csv", "claims.csv", "table.md"])
def test_laptop_tables_are_those_checked_by_hand(written, name):
    assert (written / name).read_text() == (EXPECTED / "laptop" / name).read_text()


def test_every_verdict_of_the_smoke_tier_is_too_few_runs(smoke):
    assert report.csv_text(smoke.claims) == (EXPECTED / "smoke" / "claims.csv").read_text()
    assert set(smoke.claims["verdict"]) == {"too few runs"}


def test_files_are_byte_equal_when_made_again(laptop, written, tmp_path):
    paths = report.write(laptop.sources, laptop.table, laptop.claims, laptop.readings, tmp_path)
    names = ["table.csv", "table.md", "table.tex", "figure.png", "figure.svg", "claims.csv", "provenance.json"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert all(path.read_bytes() == (written / path.name).read_bytes() for path in paths)


def test_provenance_lists_every_run_with_its_commit(written):
    known = json.loads((written / "provenance.json").read_text())
    assert known["commits"] == {"a" * 40: 19, "b" * 40: 6}
    assert (known["dirty"], known["tier"], known["versions"]) == (1, "laptop", [{"torch": "2.15.0"}])
    assert sum(len(group["ids"]) for group in known["runs"]) == 25
    assert {group["status"]: group["ids"] for group in known["runs"]}["failed"] == ["a1986c74e645"]
    assert known["missing"] == ["0c468182d12c", "6427f96a9fdc"]


def test_chance_is_known_for_columns_that_read_the_recorded_score(laptop):
    """Not for epochs, which are another number of the same row, nor for a column of valid/error."""
    found = dict(trials.chances(laptop.sources))
    written = {(row, "error %"): 50.0 for row in ("bn", "none", "ln", "wn", "gn")}
    assert found == written | {(row, "spoken error %"): 40.0 for row in ("bn", "none")}
