"""What the page is given: every number as in table.csv and the records, and only what changed is read again."""

import json
import math

import pytest
from dashboard_made import PARTS, TABLES, decoded, lines_of, number_of

from normtables.places import EXPERIMENTS, ROOT
from normtables.records import Store
from normtables.report.runs import leaves
from normtables.report.site import Site, page
from normtables.tables.spec import load


@pytest.fixture(scope="module")
def data(site):
    return decoded(site)


def part_of(data, name, tier):
    [table] = [table for table in data.tables if table["name"] == name]
    return next(part for part in table["tiers"] if part["tier"] == tier)


def close(text, value):
    """Whether a printed number is that value to its last decimal; both may be missing."""
    if "" in (text, value) or None in (text, value):
        return not text and not value and value != 0
    return abs(float(text) - float(value)) <= 0.5000001 * 10.0 ** -len(text.partition(".")[2])


@pytest.mark.parametrize("part", PARTS)
def test_every_cell_is_that_of_table_csv(data, shown, part):
    tier, label = part.split("/")
    columns = {column["name"]: column for column in part_of(data, str(int(label[-2:])), tier)["columns"]}
    lines = lines_of(shown / part / "table.csv")
    seen = 0
    for line in lines:
        beside = line["reading"] == "validation-best"
        found = [
            cell for cell in columns[line["column"]]["lines"] if (cell["row"], cell["beside"]) == (line["row"], beside)
        ]
        if not found:
            assert not any(line[key] for key in ("survey", "original", "ours", "run_ids")), line
            continue
        [cell] = found
        seen += 1
        names = {"survey": "survey", "original": "original", "ours": "ours", "sd": "sd", "low": "ci_low"}
        for ours, theirs in (names | {"high": "ci_high"}).items():
            assert close(cell[ours], line[theirs]), (line, ours)
        known = line["original"] or line["survey"]
        assert close(cell["difference"].replace("+", ""), known and line["ours"] and float(line["ours"]) - float(known))
        assert (cell["n"], cell["runs"], cell["status"]) == (int(line["n"]), line["run_ids"].split(), line["status"])
    assert seen == sum(len(column["lines"]) for column in columns.values()) > 0


@pytest.mark.parametrize("part", PARTS)
def test_the_overview_counts_cells_and_verdicts(data, shown, part):
    tier, label = part.split("/")
    found = part_of(data, str(int(label[-2:])), tier)
    lines = [line for line in lines_of(shown / part / "table.csv") if line["reading"] != "validation-best"]
    planned = [line for line in lines if line["status"] not in ("quoted", "not planned")]
    run = [line for line in planned if line["status"] in ("finished", "censored", "diverged")]
    assert (found["planned"], found["run"]) == (len(planned), len(run))
    verdicts = [claim["verdict"] for claim in lines_of(shown / part / "claims.csv")]
    assert dict(zip(data.verdicts, found["verdicts"])) == {name: verdicts.count(name) for name in data.verdicts}
    assert [claim["evidence"] for claim in found["claims"]] == [
        claim["evidence"] for claim in lines_of(shown / part / "claims.csv")
    ]


def test_a_table_of_which_nothing_was_written_has_its_published_numbers_and_planned_cells(data):
    spec = load(EXPERIMENTS / "table_04.yaml")
    found = part_of(data, "4", "paper")
    assert found["run"] == 0
    assert found["planned"] == sum(len(spec.planned_rows(name, "paper")) for name in spec.columns)
    cells = {(line["row"], column["name"]): line for column in found["columns"] for line in column["lines"]}
    for key, cell in spec.published.items():
        if "paper" in spec.columns[key[1]].tiers:
            assert close(cells[key]["survey"], "" if math.isnan(cell.survey) else cell.survey)
            assert close(cells[key]["original"], "" if math.isnan(cell.original) else cell.original)


def test_stand_ins_and_errata_are_marked(data):
    column = part_of(data, "3", "laptop")["columns"][0]
    assert (column["stand_in"], column["published"]) == ("MNIST epochs", False)
    [table] = [table for table in data.tables if table["name"] == "3"]
    assert [(e["row"], e["column"], e["certainty"]) for e in table["errata"]] == [("0.25", "NI error %", "established")]
    marked = [
        (line["row"], column["name"], line["erratum"])
        for column in part_of(data, "3", "paper")["columns"]
        for line in column["lines"]
        if line["erratum"]
    ]
    assert marked == [("0.25", "NI error %", "established")]


def test_the_index_has_every_setting_score_and_fact_of_every_record(data, shown):
    store, count = Store(shown), 0
    for record in store.records():
        settings = dict(leaves(record.config))
        for kind, known in (("settings", settings), ("scores", record.final)):
            for (what, name), column in data.columns.items():
                if what == kind:
                    wanted = known.get(name)
                    same = wanted if kind == "settings" or wanted is None else pytest.approx(wanted, rel=1e-7)
                    assert column[record.id] == same, (record.id, name)
                    count += 1
        assert data.columns["runs", "status"][record.id] == record.status
        assert data.columns["facts", "seconds"][record.id] == record.facts["seconds"]
    assert count > 1000


def test_histories_are_those_of_the_store(site, shown):
    store, run = Store(shown), Store(shown).ids()[0]
    text = site.histories_js(run[:2])
    found = json.loads(json.loads(text.removeprefix(f'normtables.histories("{run[:2]}", ').rstrip(";\n)")))
    assert sorted(found) == [name for name in store.ids() if name.startswith(run[:2])]
    rows = [dict(zip(found[run]["names"], row)) for row in zip(*found[run]["columns"])]
    assert rows == [pytest.approx(row, rel=1e-7) for row in store.history(run)]


def test_a_value_that_is_no_number_is_none(fresh, add):
    add(1, final={"test/error": math.inf}, rows=[{"step": 1, "train/loss": "nan"}, {"step": 2, "train/loss": "inf"}])
    assert decoded(fresh).columns["scores", "test/error"] == {number_of(1): None}
    assert fresh.runs.histories("00")[number_of(1)]["columns"] == [[1, 2], [None, None]]


def test_values_of_several_types_stay_apart(fresh, add):
    for run, value in enumerate((1, True, "1", None, [1, 2], 1.5)):
        add(run, config={"x": value})
    found = decoded(fresh).columns["settings", "x"]
    assert [json.dumps(found[number_of(run)]) for run in range(6)] == ["1", "true", '"1"', "null", '"[1, 2]"', "1.5"]


def test_only_what_changed_is_read_again(fresh, add, monkeypatch):
    for run in range(3):
        add(run)
    before = decoded(fresh)
    asked = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda self, run: (asked.append(run), read(self, run))[1])
    assert (fresh.version_js(), asked) == (f'normtables.version("{before.version}");\n', [])
    add(1, final={"test/error": 7.5})
    after = decoded(fresh)
    assert (set(asked), after.columns["scores", "test/error"][number_of(1)]) == ({number_of(1)}, 7.5)
    assert after.version != before.version
    (fresh.results / "runs" / number_of(2) / "record.json").unlink()
    assert decoded(fresh).columns["runs", "status"][number_of(2)] == "interrupted"


def test_a_damaged_record_is_shown_as_one_and_not_read_again_and_again(fresh, add):
    add(1)
    add(2)
    (fresh.results / "runs" / number_of(1) / "record.json").write_text("{")
    found = decoded(fresh)
    assert found.columns["runs", "status"] == {number_of(1): "unreadable", number_of(2): "finished"}
    assert "is damaged" in found.columns["runs", "reason"][number_of(1)]
    assert decoded(fresh).version == found.version
    assert not fresh.runs.look()


def test_a_run_that_is_being_made_is_shown_with_its_newest_row(fresh, begin):
    with begin(1, epoch=3, claim=True):
        begin(2, epoch=1, claim=False)
        found = decoded(fresh).columns
        assert found["runs", "status"] == {number_of(1): "running", number_of(2): "interrupted"}
        assert found["scores", "test/error"] == {number_of(1): 47, number_of(2): 49}
        assert found["facts", "steps"] == {number_of(1): 30, number_of(2): 10}
        assert found["settings", "budget.epoch"] == {number_of(1): 4, number_of(2): 4}
        version = decoded(fresh).version
        begin(1, epoch=4, claim=False)
        assert decoded(fresh).version != version
    assert decoded(fresh).columns["runs", "status"][number_of(1)] == "interrupted"


def test_a_failed_run_that_is_made_again_is_running(fresh, add, begin):
    add(1, status="failed", reason="out of memory")
    assert decoded(fresh).columns["runs", "status"] == {number_of(1): "failed"}
    with begin(1, epoch=2, claim=True):
        assert decoded(fresh).columns["runs", "status"] == {number_of(1): "running"}
    assert decoded(fresh).columns["runs", "reason"] == {number_of(1): "out of memory"}


def test_a_table_written_again_is_read_again(fresh, shown):
    folder = fresh.results / "laptop" / "table_03"
    assert part_of(decoded(fresh), "3", "laptop")["run"] == 0
    folder.mkdir(parents=True)
    for name in ("table.csv", "claims.csv"):
        (folder / name).write_bytes((shown / "laptop" / "table_03" / name).read_bytes())
    assert part_of(decoded(fresh), "3", "laptop")["run"] == 20


def test_an_empty_folder_of_results_is_no_mistake(tmp_path):
    found = decoded(Site(tmp_path / "none", TABLES))
    assert (found.runs["ids"], found.sweeps, len(found.tables)) == ([], [], 4)


def test_a_table_of_a_users_own_is_shown_with_its_command(tmp_path, results):
    path = tmp_path / "mine.yaml"
    path.write_text((EXPERIMENTS / "table_03.yaml").read_text().replace("table: 3", "table: mine", 1))
    [table] = decoded(Site(results, [path])).tables
    assert (table["name"], table["tiers"][0]["command"]) == (
        "mine",
        f"normtables table {path} --tier smoke --run --results {results}",
    )


def test_the_page_on_disk_is_the_same_when_made_again(site, tmp_path):
    first, second = (page.export(site, tmp_path / name).parent for name in ("a", "b"))
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert {"index.html", "data.js", "version.js", "plotly.min.js"} < set(names)
    assert sum(name.startswith("histories/") for name in names) == len(site.prefixes())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_paths_of_this_checkout_are_told_from_its_root():
    assert decoded(Site(ROOT / "results" / "nothing here", [])).results == "results/nothing here"
