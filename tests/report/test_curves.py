"""The curves of a small made-up table read back from what is drawn: places, lines, bars, gaps, panels and words."""

import csv
import math
from types import SimpleNamespace

import matplotlib
import pytest
from matplotlib.colors import to_hex

from normtables import report
from normtables.records import Record, Store
from normtables.report import curves, grid
from normtables.tables import claims, collect
from normtables.tables.plan import plan
from normtables.tables.sources import Sources
from normtables.tables.spec import load

TABLE = """
table: mine
title: Three rows by depth
source: nobody
kind: reproduction
runnable: true
fixed: {model: fnn, budget: 3epochs}
tiers: {smoke: {repeat: {seed: [0]}}, short: {repeat: {seed: [0, 1, 2]}}, paper: {repeat: {seed: [0, 1, 2]}}}
rows:
  SNN: {set: {norm: snn}}
  BN: {set: {norm: bn}}
  theirs: quoted
  LN: {set: {norm: ln}}
columns:
  "8": &error {tiers: [short, paper], set: {model.width: 64, dataset: digits, model.depth: 8}, score: test/error,
    read: last, better: lower, unit: "%"}
  "2": {<<: *error, set: {dataset: digits, model.depth: 2, model.width: 64}}
  "3": {<<: *error, tiers: [paper], set: {dataset: digits, model.depth: 3, model.width: 64}}
  "4": {<<: *error, set: {dataset: digits, model.depth: 4, model.width: 64}, rows: [SNN, BN]}
  "32": {<<: *error, tiers: [paper], set: {dataset: digits, model.depth: 32, model.width: 64}}
  toy 2: {<<: *error, tiers: [smoke], set: {dataset: topics, model.depth: 2, model.width: 64}, stand_in: "2"}
  toy 4: {<<: *error, tiers: [smoke], set: {dataset: topics, model.depth: 4, model.width: 64}, stand_in: "4"}
  any depth: {<<: *error, set: {dataset: digits}}
curves: {x: model.depth}
published:
  SNN: {"2": [20, 20, verified], "4": [21, 21, verified], "8": [22, 22, verified], "32": [25, 25, verified]}
  BN: {"2": [40, 40, verified], "4": [41, null, verified, copied], "8": [42, 43, verified]}
  theirs: {"2": [50, null, unknown], any depth: [50, 50, verified]}
  LN: {"2": [null, 60, verified]}
"""
SHORT = {  # row, depth -> errors of the seeds; None: diverged. LN is not run at all
    ("snn", 2): (19, 20, 21),
    ("snn", 4): (20, 21, 22),
    ("snn", 8): (23, 24, 28),
    ("bn", 2): (30, 30, 30),
    ("bn", 4): (31, None, 31),
    ("bn", 8): (32,),
}


def made(folder, composer, tier, numbers, text=TABLE):
    """A planned table with a record for each of these numbers, in the order of the seeds."""
    folder.mkdir(exist_ok=True)
    (folder / "mine.yaml").write_text(text)
    planned, store = plan(load(folder / "mine.yaml"), tier, composer), Store(folder / "results")
    for run in planned.runs.values():
        known = numbers.get((run.settings["norm"], run.settings.get("model.depth")), ())[run.settings["seed"] :]
        if known:
            status = "diverged" if known[0] is None else "finished"
            row = {"step": 1, "epoch": 1, "test/error": known[0] or 90.0}
            score = {"name": "test/error", "better": "lower", "chance": 90.0}
            store.write(Record(run.id, status, "", {}, score, row, {}))
            with (store.folder(run.id) / "history.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
                writer.writerow(row)
    shown = grid.grid_of(planned, collect.collect(Sources(planned, store)))
    return SimpleNamespace(plan=planned, spec=planned.spec, store=store, grid=shown)


@pytest.fixture(scope="module")
def short(tmp_path_factory, composer):
    return made(tmp_path_factory.mktemp("short"), composer, "short", SHORT)


def drawn(found):
    """The axes of the figure by title, and the texts of its legend."""
    with curves.plain_style():
        figure = curves.figure(found.spec, found.grid.title, curves.panels(found.spec, found.grid))
        figure.canvas.draw()
    return {ax.get_title(): ax for ax in figure.axes}, [text.get_text() for text in figure.legends[0].get_texts()]


def lines(ax):
    """The drawn lines by label."""
    return {container.get_label(): container.lines[0] for container in ax.containers}


def points(line):
    """Where a line is, without the gaps."""
    return [(x, y) for x, y in zip(line.get_xdata(), line.get_ydata()) if math.isfinite(y)]


@pytest.fixture(scope="module")
def figure(short):
    return drawn(short)


@pytest.fixture(scope="module")
def axes(figure):
    assert list(figure[0]) == [""]  # one panel needs no name; the column without a depth is not in it
    return figure[0][""]


def test_a_row_is_a_line_in_order_of_depth(axes):
    """Ours has no gap at the depths that only another tier has; the published curve is drawn whole."""
    found = lines(axes)
    assert list(found["SNN, ours, 95 % interval"].get_xdata()) == [2, 4, 8]
    assert list(found["SNN, ours, 95 % interval"].get_ydata()) == [20, 21, 25]
    assert points(found["SNN, published"]) == [(2, 20), (4, 21), (8, 22), (32, 25)]
    assert set(found) == {
        *(f"{row}, {kind}" for row in ("SNN", "BN") for kind in (curves.OURS, curves.PUBLISHED)),
        f"BN, {curves.SURVEY}",
        "theirs, published",
        "LN, published",
    }


def test_a_cell_without_a_mean_is_a_gap_and_a_single_run_has_no_bar(axes):
    ours = next(container for container in axes.containers if container.get_label() == f"BN, {curves.OURS}")
    assert list(ours.lines[0].get_xdata()) == [2, 4, 8]
    assert points(ours.lines[0]) == [(2, 30), (8, 32)]
    bars = [[y for _, y in part] for part in ours.lines[2][0].get_segments() if len(part)]
    assert [part for part in bars if all(map(math.isfinite, part))] == [[30, 30]]


def test_bars_are_the_intervals(axes):
    """19, 20, 21: 20 -+ 4.302653 / sqrt(3)."""
    ours = next(container for container in axes.containers if container.get_label() == f"SNN, {curves.OURS}")
    first = ours.lines[2][0].get_segments()[0]
    assert [*first[:, 1]] == [pytest.approx(17.515862, abs=1e-6), pytest.approx(22.484138, abs=1e-6)]


def test_what_only_the_survey_prints_is_a_mark_of_its_own(axes):
    """Where its source is not known the survey's number is what is published; where that has none it is another."""
    found = lines(axes)
    assert points(found["BN, published"]) == [(2, 40), (8, 43)]
    assert points(found[f"BN, {curves.SURVEY}"]) == [(4, 41), (8, 42)]
    assert points(found["theirs, published"]) == [(2, 50)]


def test_a_row_has_one_colour_and_ours_alone_is_solid(axes):
    found = lines(axes)
    colours = {
        row: {to_hex(line.get_color()) for label, line in found.items() if label.startswith(row)} for row in found
    }
    assert all(len(shades) == 1 for shades in colours.values())
    rows = ("SNN", "BN", "theirs", "LN")
    assert len({to_hex(found[f"{row}, published"].get_color()) for row in rows}) == 4
    assert len({found[f"{row}, published"].get_marker() for row in rows}) == 4
    for label, line in found.items():
        kind = label.partition(", ")[2]
        styles = {curves.OURS: "-", curves.PUBLISHED: "--", curves.SURVEY: "None"}
        assert line.get_linestyle() == styles[kind]
        assert (line.get_markerfacecolor() == "none") == (kind != curves.OURS)


def test_72_rows_look_different():
    looks = {(curves.COLORS[i % len(curves.COLORS)], curves.MARKERS[i % len(curves.MARKERS)]) for i in range(72)}
    assert len(looks) == 72


def test_rows_stand_beside_each_other_but_their_data_do_not_move(axes):
    found = lines(axes)
    left, right = (
        line.get_transform().transform((2, 20))[0] for line in (found["SNN, published"], found["LN, published"])
    )
    assert right - left == pytest.approx(3 * curves.APART / 72 * axes.figure.dpi)
    low, high = axes.get_ylim()
    assert 15 < low < 17.5
    assert 60 < high < 70


def test_the_axis_is_logarithmic_and_ticked_where_columns_are(axes):
    assert axes.get_xscale() == "log"
    assert [*axes.get_xticks()] == [2, 4, 8, 32]  # nobody has anything at 3, which only the tier paper has
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "4", "8", "32"]
    assert [*axes.get_xticks(minor=True)] == []
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("model.depth", "%")


def test_the_legend_names_rows_and_kinds_once(figure):
    assert figure[1] == ["SNN", "BN", "theirs", "LN", curves.OURS, curves.PUBLISHED, curves.SURVEY]


def test_a_stand_in_has_a_panel_of_its_own_beside_the_published_curves(tmp_path, composer):
    found = made(tmp_path, composer, "smoke", {("snn", 2): (70,), ("snn", 4): (80,)})
    axes, legend = drawn(found)
    assert list(axes) == ["digits (published only)", "topics (stand-in)"]
    assert {label.partition(", ")[2] for label in lines(axes["digits (published only)"])} == {
        curves.PUBLISHED,
        curves.SURVEY,
    }
    own = lines(axes["topics (stand-in)"])
    assert list(own) == [f"SNN, {curves.OURS}"]
    assert points(own[f"SNN, {curves.OURS}"]) == [(2, 70), (4, 80)]
    assert axes["topics (stand-in)"].get_xscale() == "linear"
    assert legend[:4] == ["SNN", "BN", "theirs", "LN"]


def test_what_is_not_run_has_no_panel(tmp_path, composer):
    axes, legend = drawn(made(tmp_path, composer, "smoke", {}))
    assert list(axes) == ["digits (published only)"]
    assert legend == ["SNN", "BN", "theirs", "LN", curves.PUBLISHED, curves.SURVEY]
    empty = made(tmp_path / "bare", composer, "smoke", {}, TABLE.partition("published:")[0])
    assert curves.draw(empty.spec, empty.grid) == {}
    assert list(curves.lines(empty.spec, empty.grid)) == []


def test_columns_themselves_can_be_the_places(tmp_path, composer):
    found = made(tmp_path, composer, "short", SHORT, TABLE.replace("{x: model.depth}", "{x: column}"))
    axes, _ = drawn(found)
    ours = lines(axes[""])[f"SNN, {curves.OURS}"]
    assert [*ours.get_xdata()] == [0, 1, 2, 4]
    assert [*ours.get_ydata()][:3] == [25, 20, 21]
    assert [text.get_text() for text in axes[""].get_xticklabels()] == ["8", "2", "4", "32", "any depth"]
    assert (axes[""].get_xscale(), axes[""].get_xlabel()) == ("linear", "")


def test_columns_read_in_another_way_are_other_panels(tmp_path, composer):
    text = TABLE.replace('"2": {<<: *error,', '"2": {<<: *error, read: best,')
    assert list(drawn(made(tmp_path, composer, "short", SHORT, text))[0]) == ["last", "best"]


def test_curves_are_byte_equal_when_made_again_whatever_the_users_style(short):
    plain = curves.draw(short.spec, short.grid)
    assert list(plain) == ["curves.png", "curves.svg"]
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.hashsalt": "x"}):
        assert curves.draw(short.spec, short.grid) == plain
    assert b"<dc:date>" not in plain["curves.svg"]


def test_table_md_shows_the_curves_and_says_what_is_not_in_them(short, tmp_path):
    sources = Sources(short.plan, short.store)
    table, readings = collect.collect(sources), collect.readings(sources)
    verdicts = claims.judge(sources, collect.samples(sources))
    names = [path.name for path in report.write(sources, table, verdicts, readings, tmp_path)]
    assert {"curves.png", "curves.svg"} <= set(names)
    text = (tmp_path / "table.md").read_text()
    assert text.index("(figure.png)") < text.index("(curves.png)\n") < text.index("- 8: test/error")
    assert "\n- No point in the curves: 1 of 3 diverged (1), not run (2).\n" in text
    assert "\n- A point without a bar, from too few runs for an interval: 1.\n" in text


def test_a_table_without_curves_has_none(laptop):
    shown = grid.grid_of(laptop.plan, laptop.table)
    assert curves.draw(laptop.plan.spec, shown) == {}
    assert list(curves.lines(laptop.plan.spec, shown)) == []
