"""What the written files say, and that they cannot be broken by what is missing, published or oddly named."""

import dataclasses
import errno
import math
import os
import re

import matplotlib
import pandas as pd
import pytest

from normtables import report
from normtables.errors import UserError
from normtables.records import Record, Store
from normtables.report import figure, grid, latex, markdown, misprints, provenance
from normtables.tables.entries import Choose
from normtables.tables.plan import Cell, Member
from normtables.tables.reading import Rule
from normtables.tables.sources import Sources
from normtables.tables.statements import Published


def changed(laptop, **fields):
    """The golden plan with another table file."""
    return dataclasses.replace(laptop.plan, spec=dataclasses.replace(laptop.plan.spec, **fields))


@pytest.fixture(scope="module")
def shown(laptop):
    return grid.grid_of(laptop.plan, laptop.table)


def page(found, plan=None):
    plan = plan or found.plan
    origin = provenance.origins(dataclasses.replace(found.sources, plan=plan))
    return markdown.page(plan, grid.grid_of(plan, found.table), found.claims, found.readings, origin)


def test_smoke_says_that_its_numbers_mean_nothing(smoke, laptop):
    assert "The numbers mean nothing" in page(smoke)
    assert "The numbers mean nothing" not in page(laptop)


def test_a_quoted_column_is_told_as_such_and_not_how_it_is_read(laptop):
    columns = {
        **laptop.plan.spec.columns,
        "epochs": dataclasses.replace(laptop.plan.spec.columns["epochs"], quoted=True),
    }
    text = page(laptop, changed(laptop, columns=columns))
    assert "- epochs: quoted, never run." in text
    assert "is better), best; budget" in text


def test_a_numbered_table_names_its_make_target(laptop):
    assert "`make reproduce-table-3 TIER=laptop` makes them" in page(laptop, changed(laptop, table=3))


def test_differences_are_told_of_printed_columns_only(laptop):
    spec = laptop.plan.spec
    assert len(list(markdown.differences(spec, ["error %"]))) == 2
    assert list(markdown.differences(spec, ["epochs", "steps to 20 %"])) == []


def test_a_table_without_a_single_run_is_written(laptop, tmp_path):
    from normtables.tables import claims, collect

    empty = Sources(laptop.plan, Store(tmp_path / "nothing"))
    table, readings = collect.collect(empty), collect.readings(empty)
    verdicts = claims.judge(empty, collect.samples(empty))
    assert set(verdicts["verdict"]) == {"missing"}
    report.write(empty, table, verdicts, readings, tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| bn | 11.0 / 10.5 / not run |" in text
    assert "0 of 27 runs done." in text
    assert "Cells that wait for runs: 17." in text  # five rows in three columns, two in the stand-in


def test_latex_has_one_entry_a_column_and_balanced_braces(shown):
    text = latex.tabulars(shown)
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    for columns, body in re.findall(r"\\begin\{tabular\}\{l(r+)\}(.*?)\\end\{tabular\}", text, re.S):
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns)}
        spanned = sum(map(int, re.findall(r"\\multicolumn\{(\d)\}", body)))
        assert spanned == len(columns)
        ends = [int(n) for n in re.findall(r"\\cmidrule\(lr\)\{\d+-(\d+)\}", body)]
        assert ends[-1] == len(columns) + 1
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert not re.search(r"(?<!\\)[%_#]", text.split("\n", 1)[1])


def test_latex_leaves_out_lines_of_rows_that_a_block_does_not_have(shown):
    second = latex.tabulars(shown).split(r"\par\medskip")[1]
    assert "30.00" in second
    assert "SVM" not in second
    assert "survey" not in second  # a stand-in has no published numbers


def panel(found):
    with figure.plain_style():
        drawn = figure.panels(found)
        drawn.canvas.draw()
    return {ax.get_title(): ax for ax in drawn.axes if ax.get_visible()}


def test_figure_sets_ours_against_the_published_numbers(shown):
    axes = panel(shown)
    assert list(axes) == ["error %", "epochs", "steps to 20 %", "spoken error % (stand-in for error %)"]
    lines = {line.get_label(): list(line.get_xdata()) for line in axes["error %"].lines}
    assert lines["survey"] == [11, 20, 13, 17.5]
    assert lines["source"] == [10.5, 20, 14, 17.5]
    bars = axes["error %"].containers[0]
    assert list(bars.lines[0].get_xdata()) == [11, 21, 16]
    low, high = bars.lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == (pytest.approx(8.515862, abs=1e-6), pytest.approx(13.484138, abs=1e-6))
    texts = [note.get_text() for note in axes["error %"].texts]
    assert texts == ["1 of 3 diverged", "1 of 3", "1 of 3 failed", "quoted"]


def test_figure_of_a_stand_in_shows_no_published_number(shown):
    labels = panel(shown)["spoken error % (stand-in for error %)"].get_legend_handles_labels()[1]
    assert labels == ["ours, 95 % interval"]


@pytest.mark.parametrize(("far", "scale"), [(33.0, "linear"), (34.0, "log"), (-1.0, "linear")])
def test_figure_is_logarithmic_over_a_wide_span(shown, far, scale):
    cells = {key: dataclasses.replace(cell, survey=math.nan, original=math.nan) for key, cell in shown.cells.items()}
    cells["bn", "error %"] = dataclasses.replace(cells["bn", "error %"], ours=11.0, low=-5.0, high=27.0)
    cells["none", "error %"] = dataclasses.replace(cells["none", "error %"], ours=far, low=far, high=far)
    ax = panel(dataclasses.replace(shown, cells=cells))["error %"]
    assert ax.get_xscale() == scale
    if scale == "log":
        assert ax.get_xlim()[0] > 5  # the interval that reaches below zero does not stretch the axis


def test_figure_ignores_the_users_style(shown):
    plain = figure.draw(shown)["figure.svg"]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "x"}):
        assert figure.draw(shown)["figure.svg"] == plain
    assert b"<dc:date>" not in plain
    assert b"error %" in plain  # text stays text


def test_a_folder_that_cannot_be_written_is_told_in_one_line(laptop, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*file.*choose another folder") as error:
        report.put(blocked, {"x": "y"})
    assert "\n" not in str(error.value)
    assert blocked.read_text() == "in the way"


def test_files_appear_whole(tmp_path, monkeypatch):
    report.put(tmp_path, {"x": "old"})
    monkeypatch.setattr(os, "getpid", lambda: 1)
    (tmp_path / "x.1.part").mkdir()  # the write fails
    with pytest.raises(UserError):
        report.put(tmp_path, {"x": "new"})
    assert (tmp_path / "x").read_text() == "old"


def test_a_file_that_cannot_be_written_leaves_no_half(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(tmp_path), "replace", full)
    with pytest.raises(UserError, match="No space left on device; free space"):
        report.put(tmp_path, {"x": "new"})
    assert list(tmp_path.iterdir()) == []


def test_errata_are_classed_by_how_well_the_source_is_known(laptop):
    nan = math.nan
    published = {
        ("bn", "error %"): Published(7.32, 7.24, "verified", "later text"),
        ("none", "error %"): Published(1.0, 1.0, "verified"),
        ("ln", "error %"): Published(80.4, nan, "verified", "na"),
        ("wn", "error %"): Published(68.5, 96.0, "secondary"),
        ("gn", "error %"): Published(7357, 7375, "memory"),
        ("SVM", "error %"): Published(nan, 3.0, "verified"),
        ("bn", "epochs"): Published(52, nan, "unknown"),
        ("ln", "epochs"): Published(52, 53, "unknown"),
    }
    spec = changed(laptop, published=published).spec
    found = misprints.errata([spec])
    assert found[["row", "class"]].to_numpy().tolist() == [
        ["bn", "established"],
        ["ln", "established"],
        ["wn", "probable"],
        ["gn", "unverified"],
    ]
    text = misprints.errata_markdown([spec])
    assert "| golden | bn | error % | 7.32 | 7.24 | later text |" in text
    assert "| golden | ln | error % | 80.40 | none | na |" in text
    assert text.count("misprint") == 1
    assert text.index("misprint") < text.index("| golden | bn")


def test_errata_page_without_errata(laptop):
    assert misprints.errata_markdown([changed(laptop, published={}).spec]).count("None.") == 3


def test_errata_of_the_survey(shared):
    """Of published.csv: the survey's number is not the source's, or the source was read and has none."""
    frame = pd.read_csv(shared / "survey" / "published.csv")
    cells = [Published(r.survey, r.original, r.original_mark, "") for r in frame.itertuples()]
    found = [(r.table, r.row, r.column) for r, cell in zip(frame.itertuples(), cells) if misprints.differs(cell)]
    assert found == [
        (3, "0.25", "NI error %"),
        (4, "Seaquest", "DQN + WN"),
        (6, "FNN + ResNet", "32"),
        (9, "maxout", "MNIST"),
        (9, "NIN", "MNIST"),
        (9, "RCNN-160", "MNIST"),
        (9, "MIM", "MNIST"),
        (10, "DAN", "D->W"),
    ]


def test_runs_index_is_flat(laptop, tmp_path):
    store = Store(tmp_path)
    config = {"model": {"name": "mlp", "widths": [300, 300]}, "seeds": {"order": 0}}
    score = {"name": "test/error", "better": "lower", "chance": 90.0}
    facts = {"seconds": 2.5, "versions": {"torch": "2.15.0"}}
    store.write(Record("b" * 12, "finished", "", config, score, {"test/error": 1.5}, facts))
    store.write(Record("a" * 12, "failed", "out of memory", {"seeds": {"order": 1}}))
    frame = report.runs_index(store)
    assert list(frame.columns) == [
        *("id", "status", "reason", "score", "model.name", "model.widths", "seeds.order"),
        *("test/error", "facts.seconds", "facts.versions.torch"),
    ]
    assert frame["id"].tolist() == ["a" * 12, "b" * 12]
    assert frame.loc[1].drop("reason").tolist() == [
        *("b" * 12, "finished", "test/error", "mlp", "[300, 300]", 0, 1.5, 2.5, "2.15.0")
    ]
    assert frame.loc[0, ["status", "reason"]].tolist() == ["failed", "out of memory"]
    assert list(report.runs_index(Store(tmp_path / "none")).columns) == ["id", "status", "reason", "score"]
    again = report.csv_text(report.runs_index(laptop.sources.store))
    assert len(again.splitlines()) == 26


def test_a_table_of_ranks_says_and_draws_them(laptop, monkeypatch, tmp_path):
    from normtables.tables.ranking import Ranking

    found = Ranking("UCI", {"x": 1.0, "y": 2.5, "z": 2.5}, 9, 8.0, 0.02, 1.1, (("y", "z"),))
    monkeypatch.setattr(report, "rankings", lambda sources: [found])
    report.write(laptop.sources, laptop.table, laptop.claims, laptop.readings, tmp_path)
    assert {"ranks.png", "ranks.svg", "figure.png"} <= set(os.listdir(tmp_path))
    text = (tmp_path / "table.md").read_text()
    assert "## Ranks over data sets" in text
    assert "- UCI: 3 rows on 9 data sets; Friedman's statistic 8.00, p 0.02;" in text
    assert "Ranks over data sets" not in page(laptop)


def searched(laptop, statuses):
    """The golden plan as a search among three settings of `row`, its six runs ended so."""
    row, column = next(iter(laptop.plan.cells))
    members = [
        Member((), (("optim.lr", rate),), (("seed", seed),), f"{rate} {seed}") for rate in (1, 2, 3) for seed in (0, 1)
    ]
    cells = {(row, column): Cell(row, column, tuple(members)), (row, "other"): Cell(row, "other", tuple(members[:2]))}
    choose = Choose(by="valid/error", read=Rule("best"), better="lower")
    plan = dataclasses.replace(changed(laptop, choose=choose), cells=cells)
    records = {m.run: Record(m.run, status, "", {}) for m, status in zip(members, statuses)}
    return row, list(provenance.Origins(plan, records, ()).lines())


def test_a_search_says_how_many_settings_there_were_and_what_diverged(laptop):
    row, lines = searched(laptop, ["finished"] * 6)
    assert lines[-1] == f"Settings are chosen by valid/error, the best of so many: {row} 3."
    row, lines = searched(laptop, ["diverged", "finished", "diverged", "failed", "finished"])
    assert lines[-1].endswith(f"the best of so many: {row} 3 (2 of 6 runs diverged).")
    assert lines[0].startswith("4 of 5 runs done, 1 failed")
