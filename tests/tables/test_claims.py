"""The judge: every kind of claim in every outcome, on numbers whose verdict can be worked out by hand."""

import math
import textwrap

import pandas as pd
import pytest
from scipy import stats as reference

from normtables.errors import UserError
from normtables.tables import claims, spec, trials

TABLE = """
    table: tried
    title: t
    source: s
    kind: reproduction
    runnable: true
    tiers: {laptop: {repeat: {seed: [0, 1, 2]}}}
    rows: {a: {set: {x: 1}}, b: {set: {x: 2}}, c: {set: {x: 3}}, base: {set: {x: 4}}}
    columns:
      error: {score: test/error, read: best, better: lower}
      gain: {score: test/accuracy, read: best, better: higher}
      rank: {score: test/error, read: best, better: lower, over: {dataset.set: [p, q]}, combine: rank_difference}
      steps: {score: valid/accuracy, read: {first: {reaches: 90}}, better: higher, take: step}
    published: {a: {error: [2.5, 2.5, verified]}}
    claims: [%s]
"""


def verdict(tmp_path, claim, cells, column="error", of_sets=None, **chances):
    """The one row that judging `claim` gives; cells: row -> values, or (value, status) pairs; of_sets: row -> ranks."""
    file = tmp_path / "t.yaml"
    file.write_text(textwrap.dedent(TABLE % f"{{id: C, says: it is so, columns: [{column}], {claim}}}"))
    table = spec.load(file)
    samples = {(row, column): [({"seed": i}, *pair(v)) for i, v in enumerate(values)] for row, values in cells.items()}
    ranks = {(row, column): found for row, found in (of_sets or {}).items()}
    found = claims.judged(table, "laptop", samples, {(row, column): value for row, value in chances.items()}, ranks)
    assert list(found.columns) == ["table", "tier", "claim", "kind", "says", "verdict", "evidence", "n"]
    assert len(found) == 1
    return found.iloc[0]


def pair(value):
    return value if isinstance(value, tuple) else (value, "finished")


BETTER = "kind: better, rows: [a], than: b, by: 0.5"
RANKS = {"a": [1, 1, 2, 1, 2, 1.5, 1], "b": [2, 3, 1, 3, 3, 1.5, 2], "c": [3, 2, 3, 2, 1, 3, 3]}
FAR, NEAR, LOW = [3.0, 3.1, 3.2], [2.9, 3.1, 3.3], [1.0, 1.1, 1.2]


def test_better_supported_with_its_numbers(tmp_path):
    row = verdict(tmp_path, BETTER, {"a": LOW, "b": FAR})
    p = reference.ttest_ind(FAR, LOW, equal_var=False, alternative="greater")
    low, high = p.confidence_interval(0.95)[0], reference.ttest_ind(FAR, LOW, equal_var=False).confidence_interval()[1]
    low = reference.ttest_ind(FAR, LOW, equal_var=False).confidence_interval()[0]
    assert (row.verdict, row.n, row.says, row.kind) == ("supported", 3, "it is so [error]", "better")
    assert p.pvalue < 1e-4
    assert row.evidence == f"'a' beats 'b' by 2.00 [{low:.2f}, {high:.2f}], adjusted p < 0.0001"


def test_ranks_are_compared_set_by_set_whatever_the_seeds_say(tmp_path):
    """Over seven data sets, whose ranks are paired; the three seeds agree to the last digit and do not count."""
    seeds = {"a": [-0.6] * 3, "b": [0.2] * 3, "c": [0.4] * 3}
    row = verdict(tmp_path, "kind: better, rows: [a], than: b, by: 0", seeds, "rank", RANKS)
    found = reference.ttest_rel(RANKS["b"], RANKS["a"], alternative="greater")
    low, high = reference.ttest_rel(RANKS["b"], RANKS["a"]).confidence_interval()
    gap = sum(RANKS["b"]) / 7 - sum(RANKS["a"]) / 7
    assert (row.verdict, row.n) == ("supported", 7)
    text = f"over 7 data sets 'a' beats 'b' by {gap:.2f} [{low:.2f}, {high:.2f}], adjusted p {found.pvalue:.2g}"
    assert row.evidence == text
    order = verdict(tmp_path, "kind: order, rows: [a, b, c], by: 0", seeds, "rank", RANKS)
    assert order.verdict == "undecided"
    assert order.evidence.startswith("weakest of 2: over 7 data sets 'b' beats 'c' by 0.21 [")
    equal = verdict(tmp_path, "kind: equal, rows: [a, b], within: 3", seeds, "rank", RANKS)
    assert equal.verdict == "supported"
    assert equal.evidence.startswith(
        f"over 7 data sets 'a' less 'b' is {-gap:.2f} [{-high:.2f}, {-low:.2f}], adjusted p"
    )


def test_ranks_on_few_data_sets_have_no_verdict_and_one_seed_is_enough(tmp_path):
    claim = "kind: better, rows: [a], than: b, by: 0"
    few = verdict(tmp_path, claim, {"a": [-0.5], "b": [0.5]}, "rank", {"a": [1, 1, 1, 1, 2], "b": [2, 2, 2, 2, 1]})
    assert (few.verdict, few.evidence, few.n) == ("too few runs", "5 of at least 6 data sets", 5)
    assert verdict(tmp_path, claim, {"a": [-0.5], "b": [0.5]}, "rank", RANKS).n == 7


@pytest.mark.parametrize(
    "claim", ["kind: constant, rows: [a], equals: 1, within: 1", "kind: fails, rows: [a], how: chance"]
)
def test_ranks_are_claimed_of_rows_against_rows(tmp_path, claim):
    with pytest.raises(UserError, match=r"claims: C: of ranks in a column: better, equal, order"):
        verdict(tmp_path, claim, {}, "rank")


def test_better_follows_the_direction_of_the_column(tmp_path):
    assert verdict(tmp_path, BETTER, {"a": LOW, "b": FAR}, "gain").verdict == "contradicted"
    assert verdict(tmp_path, BETTER, {"a": FAR, "b": LOW}, "gain").verdict == "supported"


def test_better_by_less_than_asked_is_not_supported(tmp_path):
    """A sure but small difference: it lies wholly below the smallest interesting size, and so contradicts."""
    assert verdict(tmp_path, BETTER, {"a": [1.0, 1.001, 1.002], "b": [1.1, 1.101, 1.102]}).verdict == "contradicted"


def test_better_needs_the_size_and_the_significance(tmp_path):
    assert verdict(tmp_path, BETTER, {"a": [1.0, 2.0, 3.0], "b": [2.0, 3.0, 4.0]}).verdict == "undecided"
    wide = {"a": [1.0, 1.1, 1.2], "b": [1.4, 1.5, 1.6]}  # 0.4 better, p = 0.004, interval reaches 0.63
    assert verdict(tmp_path, BETTER, wide).verdict == "undecided"
    assert verdict(tmp_path, BETTER.replace("0.5", "0.4"), wide).verdict == "supported"


def test_better_over_rows_needs_each_and_falls_with_one(tmp_path):
    claim = "kind: better, rows: [a, c], than: b, by: 0.5"
    assert verdict(tmp_path, claim, {"a": LOW, "b": FAR, "c": LOW}).verdict == "supported"
    row = verdict(tmp_path, claim, {"a": LOW, "b": FAR, "c": [2.0, 3.0, 4.0]})
    assert row.verdict == "undecided"
    assert row.evidence.startswith("weakest of 2: 'c' beats 'b' by 0.10")
    row = verdict(tmp_path, claim, {"a": LOW, "b": FAR, "c": [9.0, 9.1, 9.2]})
    assert row.verdict == "contradicted"
    assert row.evidence.startswith("1 of 2 against it: 'c' beats 'b' by -6.00")


def test_exactly_constant_samples(tmp_path):
    assert verdict(tmp_path, BETTER, {"a": [1.0] * 3, "b": [1.5] * 3}).verdict == "supported"
    assert verdict(tmp_path, BETTER, {"a": [1.0] * 3, "b": [1.0] * 3}).verdict == "contradicted"


def test_equal(tmp_path):
    claim = "kind: equal, rows: [a, b, c], within: 0.5"
    same = {"a": LOW, "b": LOW, "c": [1.05, 1.1, 1.15]}
    assert verdict(tmp_path, claim, same).verdict == "supported"
    assert verdict(tmp_path, claim, {**same, "c": FAR}).verdict == "contradicted"
    row = verdict(tmp_path, claim, {**same, "c": [0.5, 1.1, 1.7]})
    assert row.verdict == "undecided"
    assert row.evidence.startswith("weakest of 3: ")


def test_constant(tmp_path):
    claim = "kind: constant, rows: [a], equals: 26.099, within: 0.05"
    assert verdict(tmp_path, claim, {"a": [26.099] * 3}).verdict == "supported"
    assert verdict(tmp_path, claim, {"a": [26.2] * 3}).verdict == "contradicted"
    assert verdict(tmp_path, claim, {"a": [26.0, 26.1, 26.2]}).verdict == "undecided"
    assert verdict(tmp_path, claim, {"a": [26.0] * 3}).evidence == "'a' less 26.099 is -0.10 [-0.10, -0.10]"


def test_order(tmp_path):
    claim = "kind: order, rows: [a, b, c], by: 0.5"
    assert verdict(tmp_path, claim, {"a": LOW, "b": FAR, "c": [5.0, 5.1, 5.2]}).verdict == "supported"
    assert verdict(tmp_path, claim, {"a": LOW, "b": [5.0, 5.1, 5.2], "c": FAR}).verdict == "contradicted"
    assert verdict(tmp_path, claim, {"a": LOW, "b": FAR, "c": [2.0, 3.5, 5.5]}).verdict == "undecided"


OUT, BROKEN = (math.nan, "diverged"), (math.nan, "failed")


def test_a_cell_with_a_diverged_run_is_never_averaged(tmp_path):
    row = verdict(tmp_path, BETTER, {"a": LOW, "b": [3.0, 3.1, OUT]})
    assert (row.verdict, row.evidence, row.n) == ("undecided", "'b': 1 of 3 diverged", 3)
    row = verdict(tmp_path, BETTER, {"a": [1.0, OUT, BROKEN], "b": FAR})
    assert (row.verdict, row.evidence) == ("undecided", "'a': 1 of 3 diverged, 1 of 3 failed")


def test_missing_comes_before_too_few(tmp_path):
    row = verdict(tmp_path, BETTER, {"a": LOW, "b": [3.0, (math.nan, "missing"), (math.nan, "running")]})
    assert (row.verdict, row.evidence, row.n) == ("missing", "2 of 6 runs not done, of 'b'", 1)
    row = verdict(tmp_path, BETTER, {"a": [1.0, 1.1], "b": FAR})
    assert (row.verdict, row.evidence, row.n) == ("too few runs", "2 of at least 3 runs a cell", 2)
    assert verdict(tmp_path, BETTER, {"a": LOW}).verdict == "missing"


def test_rows_that_a_column_lacks_are_told(tmp_path):
    claim = "kind: better, rows: [a, c], than: b, by: 0.5"
    file = TABLE.replace("error: {score", "error: {rows: [a, b], score")
    path = tmp_path / "t.yaml"
    path.write_text(textwrap.dedent(file % f"{{id: C, says: s, columns: [error], {claim}}}"))
    samples = {(r, "error"): [({}, v, "finished") for v in vs] for r, vs in {"a": LOW, "b": FAR}.items()}
    row = claims.judged(spec.load(path), "laptop", samples, {}, {}).iloc[0]
    assert row.verdict == "supported"
    assert row.evidence.startswith("1 of its 2 rows are run here; 'a' beats 'b'")


def test_a_column_of_another_tier_gets_no_verdict(tmp_path):
    """One verdict for each column that the tier has."""
    file = TABLE.replace("gain: {score", "gain: {tiers: [paper], score").replace("laptop: {", "paper: &p {", 1)
    path = tmp_path / "t.yaml"
    file = file.replace("seed: [0, 1, 2]}}}", "seed: [0, 1, 2]}}, laptop: *p}")
    path.write_text(textwrap.dedent(file % f"{{id: C, says: s, columns: [error, gain], {BETTER}}}"))
    table = spec.load(path)
    assert claims.judged(table, "laptop", {}, {}, {})["says"].tolist() == ["s [error]"]
    assert claims.judged(table, "paper", {}, {}, {})["says"].tolist() == ["s [error]", "s [gain]"]


DIVERGES = "kind: fails, rows: [a, b], how: diverges"
CHANCE = "kind: fails, rows: [a], how: chance"


def test_fails_by_diverging(tmp_path):
    assert verdict(tmp_path, DIVERGES, {"a": [OUT] * 3, "b": [OUT] * 3}).verdict == "supported"
    row = verdict(tmp_path, DIVERGES, {"a": [OUT] * 3, "b": [OUT, OUT, 1.0]})
    assert (row.verdict, row.evidence) == ("undecided", "'b': 2 of 3 diverged")
    row = verdict(tmp_path, DIVERGES, {"a": [OUT, OUT, 1.0], "b": LOW})
    assert (row.verdict, row.evidence) == ("contradicted", "'b': 0 of 3 diverged")
    assert verdict(tmp_path, DIVERGES, {"a": [OUT] * 3, "b": [OUT, OUT, BROKEN]}).verdict == "undecided"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([90.0, 90.0, 90.0], "supported"),
        ([89.9, 89.9, 89.9], "contradicted"),
        ([90.0, 89.0, 88.0], "supported"),  # 1 better, standard error 0.577
        ([88.5, 88.0, 87.5], "contradicted"),  # 2 better, standard error 0.289
        ([95.0, 96.0, 97.0], "supported"),
        ([OUT, OUT, OUT], "supported"),
        ([OUT, 90.0, 90.0], "supported"),
        ([OUT, 50.0, 50.0], "contradicted"),
        ([OUT, OUT, 50.0], "undecided"),
    ],
)
def test_fails_by_staying_at_chance(tmp_path, values, expected):
    assert verdict(tmp_path, CHANCE, {"a": values}, a=90.0).verdict == expected


def test_fails_by_chance_needs_to_know_chance(tmp_path):
    row = verdict(tmp_path, CHANCE, {"a": LOW})
    assert (row.verdict, row.evidence) == ("undecided", "'a': 1.10 ± 0.10 against an unknown chance")


FIRST = "kind: first, rows: [a], than: b"


def test_first_is_earlier_though_the_score_is_better_when_higher(tmp_path):
    steps = {"a": [100, 110, 120], "b": [500, 510, 520]}
    assert verdict(tmp_path, FIRST, steps, "steps").verdict == "supported"
    assert verdict(tmp_path, FIRST, {"a": steps["b"], "b": steps["a"]}, "steps").verdict == "contradicted"


def test_first_counts_a_censored_run_as_its_budget(tmp_path):
    late = (900.0, "censored")
    row = verdict(tmp_path, FIRST, {"a": [100, 110, 120], "b": [late, late, 600]}, "steps")
    assert row.verdict == "supported"
    assert row.evidence.startswith("'a' beats 'b' (1 of 3 reached) by 690.00 [")
    row = verdict(tmp_path, FIRST, {"a": [100, 110, late], "b": [300, 310, 320]}, "steps")
    assert row.verdict == "undecided"  # the survivors' mean, 105, would have looked fine
    assert verdict(tmp_path, FIRST, {"a": [late] * 3, "b": [late] * 3}, "steps").verdict == "undecided"


def test_first_by_a_factor(tmp_path):
    """a is between 4.3 and 5.2 times as early as b, c nowhere near."""
    steps = {"a": [100, 110, 115], "b": [500, 510, 520]}
    row = verdict(tmp_path, FIRST + ", times: 4", steps, "steps")
    assert row.verdict == "supported"
    assert row.evidence.startswith("4 times 'a' beats 'b' by 76.67 [")
    assert verdict(tmp_path, FIRST + ", times: 10", steps, "steps").verdict == "contradicted"


def test_equal_in_two_columns(tmp_path):
    """Each row is set against itself in the other column; b differs from a, which does not matter."""
    file = tmp_path / "t.yaml"
    claim = "kind: equal, rows: [a, b], than_column: gain, within: 0.5"
    file.write_text(textwrap.dedent(TABLE % f"{{id: C, says: s, columns: [error], {claim}}}"))
    cells = {("a", "error"): LOW, ("a", "gain"): LOW, ("b", "error"): FAR, ("b", "gain"): FAR}

    def judged(**other):
        merged = cells | {(row, "gain"): values for row, values in other.items()}
        samples = {key: [({"seed": i}, v, "finished") for i, v in enumerate(vs)] for key, vs in merged.items()}
        return claims.judged(spec.load(file), "laptop", samples, {}, {}).iloc[0]

    assert judged().verdict == "supported"
    row = judged(b=LOW)
    assert row.verdict == "contradicted"
    assert row.evidence.startswith("1 of 2 against it: 'b' (error) less 'b' (gain) is 2.00 [")


def test_each_column_against_its_own_counterpart(tmp_path):
    """Two verdicts on the same pair of cells, taken from either side."""
    file = tmp_path / "t.yaml"
    claim = "kind: equal, rows: [a], than_column: [gain, error], within: 0.5"
    file.write_text(textwrap.dedent(TABLE % f"{{id: C, says: s, columns: [error, gain], {claim}}}"))
    cells = {("a", "error"): LOW, ("a", "gain"): FAR}
    samples = {key: [({"seed": i}, v, "finished") for i, v in enumerate(vs)] for key, vs in cells.items()}
    found = claims.judged(spec.load(file), "laptop", samples, {}, {})
    assert list(found["verdict"]) == ["contradicted", "contradicted"]
    one, other = found["evidence"]
    assert one.startswith("'a' (error) less 'a' (gain) is -2.00 [")
    assert other.startswith("'a' (gain) less 'a' (error) is 2.00 [")


@pytest.fixture
def baseline(monkeypatch):
    """The same table, whose tier names a baseline."""
    monkeypatch.setitem(globals(), "TABLE", TABLE.replace("laptop: {", "laptop: {baseline: base, "))


def test_a_baseline_must_clearly_beat_chance(tmp_path, baseline):
    cells = {"a": LOW, "b": FAR}
    assert verdict(tmp_path, BETTER, {**cells, "base": [50.0, 51.0, 52.0]}, base=90.0).verdict == "supported"
    row = verdict(tmp_path, BETTER, {**cells, "base": [88.0, 89.0, 90.0]}, base=90.0)  # 1 better, standard error 0.577
    assert row.verdict == "too few runs"
    assert row.evidence == "the baseline 'base' does not clearly beat chance (89.00 ± 1.00 against chance 90.00)"
    assert verdict(tmp_path, BETTER, {**cells, "base": [OUT] * 3}, base=90.0).verdict == "too few runs"
    assert verdict(tmp_path, BETTER, {**cells, "base": [88.0, 89.0, 90.0]}).verdict == "supported"  # chance unknown
    assert verdict(tmp_path, BETTER, cells, base=90.0).verdict == "supported"  # not in this column


def test_a_baseline_must_reach_its_goal_in_two_of_three(tmp_path, baseline):
    late, cells = (900.0, "censored"), {"a": [100, 110, 120], "b": [500, 510, 520]}
    assert verdict(tmp_path, FIRST, {**cells, "base": [800, 700, late]}, "steps").verdict == "supported"
    row = verdict(tmp_path, FIRST, {**cells, "base": [800, late, late]}, "steps")
    assert (row.verdict, row.evidence) == ("too few runs", "the baseline 'base' reached its goal in 1 of 3 runs")


SOME = "{id: C, says: s, kind: constant, columns: [error], rows: [a], equals: 1, within: 1}"


def test_signs_of_columns_that_are_no_plain_score(tmp_path):
    """Epochs are better early, ranks when low and ratios when high, whichever way their score is better."""
    plain = "score: test/accuracy, read: best, better: %s"
    kinds = {"take: epoch": -1, "combine: rank_difference": -1, "relative_to: b": 1}
    largest = "score: test/error, read: {first: {reaches: 9}}, better: lower, over: {x: [1]}, combine: largest"
    for more, sign in kinds.items():
        file = tmp_path / "t.yaml"
        file.write_text(textwrap.dedent(TABLE.replace(plain % "higher", f"{plain % 'higher'}, {more}") % SOME))
        assert trials.sign_of(spec.load(file).columns["gain"]) == sign, more
    for text in (f"{plain % 'lower'}, relative_to: b", largest):
        file.write_text(textwrap.dedent(TABLE.replace(plain % "higher", text) % SOME))
        assert trials.sign_of(spec.load(file).columns["gain"]) == 1


def test_holm_is_over_the_verdicts_of_a_table(tmp_path):
    """Three claims with p = .004, .004 and 1: Holm leaves .004 * 3 = .012 for the first two."""
    one = "{id: %s, says: s, kind: better, columns: [error], rows: [a], than: b, by: %g}"
    file = tmp_path / "t.yaml"
    listed = ", ".join([one % ("A", 0.3), one % ("B", 0.1), one.replace("[a], than: b", "[b], than: a") % ("C", -9)])
    file.write_text(textwrap.dedent(TABLE % listed))
    a, b = [1.0, 1.1, 1.2], [1.4, 1.5, 1.6]
    samples = {(r, "error"): [({}, v, "finished") for v in vs] for r, vs in {"a": a, "b": b}.items()}
    found = claims.judged(spec.load(file), "laptop", samples, {}, {})
    p = reference.ttest_ind(b, a, equal_var=False, alternative="greater").pvalue
    assert [text.split()[-1] for text in found.evidence] == [f"{3 * p:.2g}", f"{3 * p:.2g}", "1"]


def frame(verdict, **more):
    row = {"table": 3, "tier": "laptop", "claim": "T3a", "says": "so [MNIST error %]", "verdict": verdict, **more}
    return pd.DataFrame([row])


def test_changed_verdicts_are_named(tmp_path):
    path = tmp_path / "claims.csv"
    frame("supported").to_csv(path, index=False)
    old = pd.read_csv(path)
    assert claims.changed_verdicts(old, frame("supported")) == []
    assert claims.changed_verdicts(old, frame("undecided", says="better words [MNIST error %]")) == [
        "table 3, laptop, claim T3a [MNIST error %]: supported -> undecided"
    ]
    assert claims.changed_verdicts(old, frame("undecided", tier="paper")) == []
    frame("supported").head(0).to_csv(path, index=False)  # of a table that claims nothing
    assert claims.changed_verdicts(pd.read_csv(path), frame("supported")) == []
