"""The planner: precedence, axes, shared runs, states, estimates, and how often it composes."""

import json
from dataclasses import replace

import pytest

from normtables.config import Composer, facts
from normtables.errors import UserError
from normtables.records import Record, Store
from normtables.tables.compose import Facts
from normtables.tables.plan import missing, narrowed, plan, states, summary
from normtables.tables.searches import searches
from normtables.tables.spec import load

HEAD = """
table: mine
title: Two norms on digits
source: nobody
kind: reproduction
runnable: true
"""
SMALL = """
fixed: {model: mlp, dataset: digits, norm: dbn, batch_size: 10}
tiers:
  smoke: {repeat: {seed: [0]}}
  laptop: {set: {batch_size: 20, budget: 3epochs}, repeat: {seed: [0, 1]}}
rows:
  one: {set: {norm.alpha: 1}}
  half: {set: {norm.alpha: 0.5}}
  SVM: quoted
columns:
  error: {score: test/error, read: best, better: lower}
  epochs: {score: test/error, read: best, better: lower, take: epoch}
"""


@pytest.fixture
def spec(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(HEAD + text)
        return load(path)

    return write


def record(store, run, known, status="finished", **facts):
    store.write(Record(run, status, "" if status == "finished" else "so", dict(known), {}, {}, facts))


def test_cells_hold_ids_and_columns_share_runs(spec, composer):
    made = plan(spec(SMALL), "laptop", composer)
    assert list(made.cells) == [("one", "error"), ("half", "error"), ("one", "epochs"), ("half", "epochs")]
    assert len(made.runs) == 4
    for (row, column), cell in made.cells.items():
        assert [dict(m.repeat) for m in cell.members] == [{"seed": 0}, {"seed": 1}]
        for member in cell.members:
            run = made.runs[member.run]
            assert composer.id(run.settings) == member.run == run.id
            assert (row, column) in run.cells
            assert run.axes == dict(member.repeat)


def test_a_quoted_row_is_never_planned(spec, composer):
    assert not any(row == "SVM" for row, _ in plan(spec(SMALL), "laptop", composer).cells)


def test_settings_of_a_cell_are_its_rows_and_its_columns_alone(spec, composer):
    text = SMALL.replace("better: lower}", "better: lower, cells: {half: {norm.count: epoch}}}", 1)
    made = plan(spec(text), "smoke", composer)
    counts = {key: made.runs[cell.members[0].run].facts["norm"]["count"] for key, cell in made.cells.items()}
    assert counts.pop(("half", "error")) == "epoch"
    assert set(counts.values()) == {"update"}


LAYERS = [
    ("tier", {}),
    ("fixed", {"fixed": 1}),
    ("tiers", {"fixed": 1, "tier": 2}),
    ("column", {"fixed": 1, "tier": 2, "column": 3}),
    ("part", {"fixed": 1, "tier": 2, "column": 3, "part": 4}),
    ("row", {"fixed": 1, "tier": 2, "column": 3, "part": 4, "row": 5}),
    ("cell", {"fixed": 1, "tier": 2, "column": 3, "part": 4, "row": 5, "cell": 6}),
    ("over", {"fixed": 1, "tier": 2, "column": 3, "part": 4, "row": 5, "cell": 6, "over": 7}),
    ("tune", {"fixed": 1, "tier": 2, "column": 3, "part": 4, "row": 5, "cell": 6, "over": 7, "tune": 8}),
    ("repeat", {"fixed": 1, "tier": 2, "column": 3, "part": 4, "row": 5, "cell": 6, "over": 7, "tune": 8, "repeat": 9}),
]


@pytest.mark.parametrize(("winner", "sets"), LAYERS)
def test_the_later_layer_wins(spec, composer, winner, sets):
    def put(layer, form="{batch_size: %s}"):
        return form % sets[layer] if layer in sets else "{}"

    many = "{batch_size: [%s]}"
    text = f"""
fixed: {put("fixed")}
tiers: {{laptop: {{set: {put("tier")}, repeat: {put("repeat", many)}}}}}
rows: {{one: {{set: {put("row") if "row" in sets else "{seed: 0}"}}}}}
columns:
  error:
    score: test/error
    read: best
    better: lower
    set: {put("column")}
    tiers: {{laptop: {{set: {put("part")}}}}}
    over: {put("over", many)}
    cells: {{one: {put("cell")}}}
"""
    tuned = f"tune: {put('tune', many)}\nchoose: {{by: valid/error, read: best, better: lower}}\n"
    made = plan(spec(text + tuned * ("tune" in sets)), "laptop", composer)
    (run,) = made.runs.values()
    assert run.facts["batch_size"] == max(sets.values(), default=100)
    assert run.facts["budget"] == {"epoch": 10}, "the tier group laptop is always set"


def test_over_tune_and_repeat_are_products_and_a_tier_narrows_grids(spec, composer):
    made = plan(
        spec("""
tiers:
  laptop: {repeat: {seed: [0, 1, 2]}}
  smoke: {repeat: {seed: [0]}, tune: {optim.lr: [0.5]}}
rows: {bn: {set: {norm: bn}, tune: {norm.epsilon: [0.1, 0.2]}}, none: {set: {norm: none}}}
columns: {error: {score: test/error, read: best, better: lower, over: {dataset.valid: [100, 200]}}}
tune: {optim.lr: [0.1, 1]}
choose: {by: valid/error, read: best, better: lower}
"""),
        "laptop",
        composer,
    )
    assert len(made.cells["bn", "error"].members) == 2 * 2 * 2 * 3
    assert len(made.cells["none", "error"].members) == 2 * 2 * 3
    member = made.cells["bn", "error"].members[-1]
    assert (dict(member.over), dict(member.repeat)) == ({"dataset.valid": 200}, {"seed": 2})
    assert dict(member.tune) == {"optim.lr": 1, "norm.epsilon": 0.2}
    untuned = replace(made.spec, columns={"error": replace(made.spec.columns["error"], tuned=False)})
    assert {m.tune for m in plan(untuned, "laptop", composer).cells["bn", "error"].members} == {()}
    small = plan(made.spec, "smoke", composer)
    assert [dict(m.tune) for m in small.cells["none", "error"].members] == [{"optim.lr": 0.5}] * 2


TUNED = """
tiers: {laptop: {repeat: {seed: [0, 1, 2]}}}
rows: {bn: {set: {norm: bn}, tune: {norm.epsilon: [0.1, 0.2]}}, none: {set: {norm: none}}}
columns:
  error: {score: test/error, read: best, better: lower, over: {dataset.valid: [100, 200]}}
  epochs: {score: test/error, read: best, better: lower, take: epoch, over: {dataset.valid: [100, 200]}}
  rates: {score: test/error, read: best, better: lower, over: {model.dropout: [0, 0.1, 0.2]}, tuned: false}
  small: {score: test/error, read: best, better: lower, set: {model.widths: [8]}, over: {dataset.valid: [100, 200]}}
tune: {optim.lr: [0.1, 1]}
choose: {by: valid/error, read: best, better: lower}
"""


def test_searches_count_what_each_row_tries_and_shared_columns_once(spec, composer):
    made = plan(spec(TUNED), "laptop", composer)
    assert list(searches(made)) == [
        "bn: 4 configurations x 2 data sets x 3 seeds x 2 columns",
        "bn: 1 configuration x 3 points x 3 seeds",
        "none: 2 configurations x 2 data sets x 3 seeds x 2 columns",
        "none: 1 configuration x 3 points x 3 seeds",
    ]
    assert list(searches(plan(spec(SMALL), "laptop", composer))) == [], "nothing is tuned"


def test_an_unknown_tier_lists_the_tables(spec, composer):
    with pytest.raises(
        UserError, match=r"table mine has no tier 'lapto'; did you mean 'laptop'[?]; it has: smoke, laptop"
    ):
        plan(spec(SMALL), "lapto", composer)


def test_a_table_that_is_not_runnable_says_so(spec, composer, tmp_path):
    loaded = spec(SMALL)
    path = tmp_path / "mine.yaml"
    path.write_text(path.read_text().replace("runnable: true", "runnable: false"))
    with pytest.raises(UserError, match="table mine is not runnable yet"):
        plan(load(path), "laptop", composer)
    assert plan(loaded, "laptop", composer).runs


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("norm.alpha: 1", "norm.alfa: 1", "norm has no setting 'alfa'; did you mean 'alpha'?"),
        ("norm: dbn", "norm: dbm", "no norm 'dbm'; did you mean 'dbn'?"),
        ("seed: [0, 1]", "seed: [0, -1]", "seed=-1"),
        ("batch_size: 20", "batch_size: many", "batch_size=many"),
    ],
)
def test_settings_that_do_not_compose_name_the_file(spec, composer, old, new, says):
    with pytest.raises(UserError) as caught:
        plan(spec(SMALL.replace(old, new)), "laptop", composer)
    assert str(caught.value).startswith("mine.yaml: ")
    assert says in str(caught.value)


def test_readings_are_planned_at_their_tier_and_do_not_depend_on_the_default(spec, composer):
    text = (
        SMALL
        + """
published: {one: {error: [1, 1, verified]}, half: {error: [2, 2, verified]}, SVM: {error: [3, 3, verified]}}
readings:
  column: error
  tier: laptop
  set: {budget: 2epochs, seed: 9, norm.forward: average}
  options: {as printed: {}, batch: {set: {norm.forward: batch}}}
  default: as printed
  because: of this
"""
    )
    made = plan(spec(text), "laptop", composer)
    assert {option: list(rows) for option, rows in made.readings.items()} == {
        o: ["one", "half"] for o in ("as printed", "batch")
    }
    run = made.runs[made.readings["batch"]["half"]]
    assert run.facts["norm"]["forward"] == "batch"
    assert (run.facts["norm"]["alpha"], run.facts["seeds"]["weights"], run.facts["budget"]) == (0.5, 9, {"epoch": 2})
    assert run.readings == (("batch", "half"),)
    assert plan(spec(text), "smoke", composer).readings == {}
    named = spec(text.replace("batch: {set: {norm.forward: batch}}", "batch: {rows: {half: {norm.forward: batch}}}"))
    some = plan(named, "laptop", composer).readings
    assert some["batch"] == {"one": made.readings["as printed"]["one"], "half": made.readings["batch"]["half"]}
    other = plan(spec(text.replace("norm: dbn,", "norm: dbn, norm.forward: batch,")), "laptop", composer)
    assert other.readings == made.readings
    assert other.cells != made.cells


def test_states_and_what_is_left_to_run(spec, composer, tmp_path):
    made, store = plan(spec(SMALL), "laptop", composer), Store(tmp_path)
    runs = list(made.runs)
    record(store, runs[0], {})
    record(store, runs[1], {}, status="diverged")
    record(store, runs[2], {}, status="failed")
    assert list(states(made, store).values()) == ["finished", "diverged", "failed", "missing"]
    assert [run.id for run in missing(made, store)] == runs[2:]


def test_summary_estimates_from_similar_finished_runs(spec, composer, tmp_path):
    made, store = plan(spec(SMALL), "laptop", composer), Store(tmp_path)
    runs = list(made.runs.values())
    assert summary(made, store)["seconds"].isna().all()
    record(store, runs[0].id, runs[0].facts, seconds=30.0, steps=600)
    record(store, "elsewhere", {**runs[0].facts, "budget": {"step": 100}}, seconds=50.0, steps=100)
    record(store, "other", {**runs[0].facts, "norm": {"name": "bn"}}, seconds=9e9, steps=1)
    record(store, "broken", runs[0].facts, status="diverged", seconds=9e9, steps=1)
    frame = summary(made, store)
    assert frame["seconds"].tolist() == [0, 30, 30, 30]
    assert frame["columns"].tolist() == [["error", "epochs"]] * 4
    assert frame["rows"].tolist() == [["one"], ["one"], ["half"], ["half"]]
    assert frame["axes"].tolist() == [{"seed": 0}, {"seed": 1}] * 2
    assert json.loads(frame.to_json(orient="records"))[0]["settings"]["norm.alpha"] == 1
    assert not frame["rough"].any()
    steps = plan(spec(SMALL.replace("3epochs", "7steps")), "laptop", composer)
    assert summary(steps, store)["seconds"].tolist() == pytest.approx([7 * 80 / 700] * 4)


def test_summary_tells_which_estimates_are_rough(spec, composer, tmp_path):
    made, store = plan(spec(SMALL), "laptop", composer), Store(tmp_path)
    runs = list(made.runs.values())
    record(store, runs[0].id, runs[0].facts, seconds=30.0, steps=600)
    wide = {**runs[2].facts, "model": runs[2].facts["model"] | {"widths": [9]}}
    record(store, "wide", {**wide, "dataset": wide["dataset"] | {"valid": 99}}, seconds=9e9, steps=600)
    assert summary(made, store)["rough"].tolist() == [False] * 4
    other = plan(
        spec(SMALL.replace("fixed: {", "fixed: {dataset.valid: 98, ").replace("3epochs", "7steps")), "laptop", composer
    )
    frame = summary(other, store)
    assert frame["rough"].tolist() == [True] * 4
    assert frame["seconds"].tolist() == pytest.approx([7 * 30 / 600] * 4)


def test_summary_estimates_fits_by_the_run(spec, composer, tmp_path):
    """Runs of no updates cost as much as the mean of similar ones, whatever their unit."""
    made, store = plan(spec(SMALL.replace("3epochs", "0epochs")), "laptop", composer), Store(tmp_path)
    facts = next(iter(made.runs.values())).facts
    record(store, "elsewhere", facts, seconds=30.0, steps=0)
    record(store, "again", facts, seconds=10.0, steps=0)
    assert summary(made, store)["seconds"].tolist() == [20] * 4


def test_a_thousand_runs_compose_only_once_for_each_setting(spec):
    class Counting(Composer):
        count = 0

        def config(self, settings):
            self.count += 1
            return super().config(settings)

    seeds = ", ".join(map(str, range(50)))
    rows = "".join(f"  r{i}: {{set: {{norm.alpha: {i / 20}}}}}\n" for i in range(20))
    counting = Counting()
    made = plan(
        spec(f"""
fixed: {{norm: dbn}}
tiers: {{laptop: {{repeat: {{seed: [{seeds}]}}}}}}
rows:
{rows}
columns: {{error: {{score: test/error, read: best, better: lower}}}}
"""),
        "laptop",
        counting,
    )
    assert len(made.runs) == 1000
    assert counting.count <= 1 + 20 + 50
    for run in list(made.runs.values())[::97]:
        assert counting.id(run.settings) == run.id


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 3},
        {"seeds.weights": 0, "seed": 3},
        {"seed": 3, "seeds.weights": 0},
        {"seeds.weights": 1, "seeds.data": 2, "seed": 0},
        {"norm": "dbn", "norm.alpha": "1/m", "norm.epsilon": 1e-4, "budget": "7steps", "evaluate": "1epoch"},
        {"tier": "smoke", "budget": "1epoch", "model.widths": [3], "dataset": "mnist", "dataset.train": 100},
        {"tf32": 1, "batch_size": 100},
    ],
)
def test_merged_facts_are_the_composed_ones(composer, settings):
    quick = Facts(composer)
    assert quick.of(settings) == facts(composer.config(settings))
    assert quick.of(settings) == facts(composer.config(settings)), "the second time too"


def test_a_plan_is_narrowed_by_names_and_globs(spec, composer):
    whole = plan(spec(SMALL), "laptop", composer)
    assert narrowed(whole, [], []) == whole
    one = narrowed(whole, ["one"], ["epo*"])
    assert list(one.cells) == [("one", "epochs")]
    assert list(one.runs) == [member.run for member in whole.cells["one", "epochs"].members]
    assert list(narrowed(whole, ["one", "h*"], ["error"]).cells) == [("one", "error"), ("half", "error")]


def test_a_name_with_brackets_is_itself(spec, composer):
    whole = plan(spec(SMALL.replace("  epochs:", "  error [a]:")), "laptop", composer)
    assert [column for _, column in narrowed(whole, ["one"], ["error [a]"]).cells] == ["error [a]"]


def test_readings_are_narrowed_with_their_column(composer):
    whole = plan(load(3), "paper", composer)
    tried = whole.spec.readings.column
    row = next(iter(next(iter(whole.readings.values()))))
    kept = narrowed(whole, [row], [tried])
    assert {option: list(found) for option, found in kept.readings.items()} == {key: [row] for key in whole.readings}
    assert {run for found in kept.readings.values() for run in found.values()} <= set(kept.runs)
    other = next(column for column in whole.spec.columns if column != tried and (row, column) in whole.cells)
    assert not any(narrowed(whole, [row], [other]).readings.values())


def test_a_part_that_is_not_there_is_told(spec, composer):
    whole = plan(spec(SMALL), "laptop", composer)
    with pytest.raises(UserError, match=r"this tier has no row 'onee'; did you mean 'one'.*it has: one, half"):
        narrowed(whole, ["onee"], [])
    with pytest.raises(UserError, match="this tier has no column 'x'"):
        narrowed(whole, [], ["error", "x"])
