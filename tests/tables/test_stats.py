"""Statistics against closed forms of scipy, hand-computed numbers and the published ranks of a source paper."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as reference

from normtables.tables import stats

A, B = [2.0, 2.4, 2.2], [1.9, 1.7, 2.1, 1.5]
numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=8).filter(lambda v: np.std(v) > 1e-3)


def difference(a, b):
    return stats.above(*stats.welch(a, b))


def equivalence(a, b, margin):
    return stats.within(*stats.welch(a, b), margin)


def test_summary_of_three_values_by_hand():
    """Mean 2.2, sd sqrt((.04 + .04 + 0) / 2) = 0.2, half width 4.302653 * 0.2 / sqrt(3) = 0.496828."""
    found = stats.summary(A)
    assert (found.mean, found.sd, found.n) == (pytest.approx(2.2), pytest.approx(0.2), 3)
    assert (found.low, found.high) == (pytest.approx(2.2 - 0.496828, abs=1e-6), pytest.approx(2.2 + 0.496828, abs=1e-6))


@given(numbers)
def test_summary_interval_is_students(values):
    low, high = reference.ttest_1samp(values, 0).confidence_interval(0.95)
    found = stats.summary(values)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_summary_of_one_or_none_has_no_interval():
    one, none = stats.summary([5.0]), stats.summary([])
    assert (one.mean, one.n, none.n) == (5.0, 1, 0)
    assert all(math.isnan(v) for v in (one.sd, one.low, one.high, none.mean, none.sd, none.low))


def test_summary_of_equal_values_is_exact():
    """0.1 + 0.1 + 0.1 is not 0.3: the mean of equal values must still be the value and the spread zero."""
    for n in (3, 12):
        found = stats.summary([0.1] * n)
        assert (found.mean, found.sd, found.low, found.high) == (0.1, 0.0, 0.1, 0.1)


def test_summary_of_many_is_bootstrapped_and_repeatable():
    values = list(np.random.default_rng(3).exponential(size=40))
    found, again = stats.summary(values), stats.summary(values)
    assert found == again
    assert found.high - found.mean > found.mean - found.low  # skewed upwards, as a t interval never is
    rough = reference.t.ppf(0.975, 39) * found.sd / math.sqrt(40)
    assert found.high - found.low == pytest.approx(2 * rough, rel=0.25)


@given(numbers, numbers)
def test_difference_is_welchs(a, b):
    expected = reference.ttest_ind(a, b, equal_var=False, alternative="greater")
    both = reference.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    found = difference(a, b)
    assert found.value == pytest.approx(np.mean(a) - np.mean(b))
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert (found.low, found.high) == (pytest.approx(both.low), pytest.approx(both.high))


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=8))
def test_differences_of_pairs_are_a_paired_t_test(pairs):
    a, b = zip(*pairs)
    assume(np.std(np.subtract(a, b)) > 1e-3)
    expected = reference.ttest_rel(a, b, alternative="greater")
    both = reference.ttest_rel(a, b).confidence_interval(0.95)
    found = stats.above(*stats.paired(a, b))
    assert found.value == pytest.approx(np.mean(np.subtract(a, b)))
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert (found.low, found.high) == (pytest.approx(both.low), pytest.approx(both.high))


def test_a_single_pair_has_no_p():
    assert math.isnan(stats.above(*stats.paired([2.0], [1.0])).p)


def test_difference_of_constants():
    assert difference([2.0] * 3, [1.0] * 3) == stats.Difference(1.0, 1.0, 1.0, 0.0)
    assert difference([1.0] * 3, [2.0] * 3) == stats.Difference(-1.0, -1.0, -1.0, 1.0)
    assert difference([1.0] * 3, [1.0] * 3) == stats.Difference(0.0, 0.0, 0.0, 1.0)


def test_difference_with_one_constant_sample_is_a_one_sample_test():
    found, expected = difference(A, [1.5] * 3), reference.ttest_1samp(A, 1.5, alternative="greater")
    assert found.p == pytest.approx(expected.pvalue)


def test_difference_of_single_values_has_no_p():
    found = difference([2.0], [1.0, 1.2])
    assert found.value == pytest.approx(0.9)
    assert math.isnan(found.p)
    assert math.isnan(found.low)


def test_equivalence_is_two_one_sided_tests():
    shifted = [v + 0.5 for v in B]
    above = reference.ttest_ind([v + 0.4 for v in A], shifted, equal_var=False, alternative="greater").pvalue
    below = reference.ttest_ind([v - 0.4 for v in A], shifted, equal_var=False, alternative="less").pvalue
    found = equivalence(A, shifted, 0.4)
    assert found.p == pytest.approx(max(above, below))
    assert found == stats.Difference(found.value, *stats.t_interval(*stats.welch(A, shifted)), found.p)
    assert equivalence(shifted, A, 0.4).p == pytest.approx(found.p)


def test_equivalence_of_constants():
    assert equivalence([1.0] * 3, [1.25] * 3, 0.25).p == 0.0
    assert equivalence([1.0] * 3, [1.5] * 3, 0.25).p == 1.0


def test_equals_is_two_one_sided_tests_against_a_number():
    above = reference.ttest_1samp(A, 2.3 - 0.5, alternative="greater").pvalue
    below = reference.ttest_1samp(A, 2.3 + 0.5, alternative="less").pvalue
    found = stats.equals(A, 2.3, 0.5)
    assert found.p == pytest.approx(max(above, below))
    assert found.value == pytest.approx(-0.1)
    assert stats.equals([26.099] * 3, 26.099, 0.001).p == 0.0
    assert math.isnan(stats.equals([1.0], 1.0, 0.1).p)


def test_holm_by_hand():
    """Sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, made non-decreasing: .04 .06 .06 .06."""
    assert stats.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert stats.holm([0.6, 0.9]) == [1.0, 1.0]
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_order_and_lies_between_none_and_bonferroni(pvalues):
    adjusted = stats.holm(pvalues)
    assert all(p <= q <= min(1, p * len(pvalues)) + 1e-12 for p, q in zip(pvalues, adjusted))
    by_p = [q for _, q in sorted(zip(pvalues, adjusted))]
    assert all(a <= b for a, b in pairwise(by_p))


def test_ranks_average_ties_both_ways():
    frame = pd.DataFrame({"x": [1.0, 5.0], "y": [1.0, 3.0], "z": [2.0, 4.0]})
    assert stats.average_ranks(frame, "lower").to_dict() == {"x": 2.25, "y": 1.25, "z": 2.5}
    assert stats.average_ranks(frame, "higher").to_dict() == {"x": 1.75, "y": 2.75, "z": 1.5}
    assert stats.rank_differences(frame, "lower").to_dict() == {"x": 0.25, "y": -0.75, "z": 0.5}


def test_ranks_refuse_gaps():
    with pytest.raises(ValueError, match="every method"):
        stats.average_ranks(pd.DataFrame({"x": [1.0, math.nan], "y": [1.0, 2.0]}), "lower")


def test_wilcoxon_of_equal_pairs_is_one():
    assert stats.wilcoxon([1.0, 2.0], [1.0, 2.0]) == 1.0


def test_wilcoxon_exact_by_hand():
    """Five pairs that all differ the same way: two of the 32 equally likely sign patterns are as extreme."""
    assert stats.wilcoxon([2, 4, 6, 8, 10], [1, 2, 3, 4, 5]) == pytest.approx(2 / 32)


def test_wilcoxon_ranks_an_infinite_difference_first_and_two_infinite_values_are_equal():
    """Of eight differences -inf, which counts as -100, and seven of the other sign, none larger than 7."""
    best = [10.0, 11, 12, 13, 14, 15, 16, 17]
    worse = [-math.inf, *(b + i + 1 for i, b in enumerate(best[1:]))]
    expected = reference.wilcoxon([-100, 2, 3, 4, 5, 6, 7, 8]).pvalue
    assert stats.wilcoxon(worse, best) == pytest.approx(expected)
    assert stats.wilcoxon([*worse, -math.inf], [*best, -math.inf]) == pytest.approx(expected)


def test_wilcoxon_of_equal_differences_that_differ_in_their_last_bits():
    """0.3 - 0.2 is less than 0.4 - 0.3, and 0.1 + 0.2 is more than 0.3."""
    a, b = [0.3, 0.4, 1.0, 2.0, 0.1 + 0.2], [0.2, 0.3, 1.1, 1.0, 0.3]
    assert stats.wilcoxon(a, b) == stats.wilcoxon([1, 1, -1, 10, 0], [0] * 5)


def test_friedman_of_methods_that_never_differ():
    frame = pd.DataFrame({name: [1.0, 2.0, 3.0, 2.0] for name in "abc"})
    assert stats.friedman(frame) == (0.0, 1.0)


def test_sums_in_another_order_are_one_number():
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
    assert stats.firm(0.1 + 0.2 + 0.3) == stats.firm(0.3 + 0.2 + 0.1) == 0.6
    assert stats.firm(85.25) == 85.25
    assert stats.firm(1.00000000001) != 1
    assert stats.firm(-math.inf) == -math.inf
    assert math.isnan(stats.firm(math.nan))


def test_friedman_by_hand():
    """Ranks 1 2 3 in each of four rows: 12 * 4 / (3 * 4) * (1 + 0 + 1) = 8 with mean ranks 1, 2, 3; p = exp(-4)."""
    frame = pd.DataFrame({"x": [1, 2, 3, 4], "y": [2, 3, 4, 5], "z": [3, 4, 5, 6]})
    assert stats.friedman(frame) == (pytest.approx(8.0), pytest.approx(math.exp(-4)))


def test_nemenyi_matches_demsar():
    """Demsar 2006, section 3.2.2: four methods on 14 data sets, q = 2.569, CD = 1.25."""
    assert stats.nemenyi_cd(4, 14) == pytest.approx(1.25, abs=0.005)


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (3, 2.343), (7, 2.949), (10, 3.164), (13, 3.313)])
def test_nemenyi_quantiles_are_the_published_ones(methods, quantile):
    """Demsar 2006, Table 5a, and for 13 methods its continuation, cut or rounded to three digits."""
    found = stats.nemenyi_cd(methods, 30) / math.sqrt(methods * (methods + 1) / 180)
    assert found == pytest.approx(quantile, abs=1e-3)


METHODS = ["SNN", "MS", "HW", "ResNet", "BN", "WN", "LN"]


def accuracies(shared):
    frame = pd.read_csv(shared / "protocols" / "snn_table_a11.tsv", sep="\t").set_index("dataset")
    return frame.dropna(subset=METHODS)


def test_published_ranks_of_seven_methods(shared):
    """Protocol of Table 5: recomputed on 120 sets, and on the 46 with at least 1000 points."""
    frame = accuracies(shared)
    assert len(frame) == 120
    whole = stats.rank_differences(frame[METHODS], "higher")
    expected = {"SNN": -0.763, "MS": -0.233, "LN": -0.171, "HW": 0.0, "ResNet": 0.242, "WN": 0.4, "BN": 0.525}
    assert whole.to_dict() == pytest.approx(expected, abs=0.0006)
    large = stats.rank_differences(frame.loc[frame.N >= 1000, METHODS], "higher")
    expected = {"SNN": -0.978, "LN": -0.326, "MS": -0.087, "ResNet": 0.196, "HW": 0.239, "WN": 0.37, "BN": 0.587}
    assert (frame.N >= 1000).sum() == 46
    assert large.to_dict() == pytest.approx(expected, abs=0.0006)


def test_published_wilcoxon_of_seven_methods(shared):
    frame = accuracies(shared)
    expected = {"MS": 0.055, "HW": 0.0037, "ResNet": 0.0011, "BN": 6.6e-6, "WN": 1.6e-6, "LN": 0.030}
    found = {name: stats.wilcoxon(frame["SNN"], frame[name]) for name in expected}
    assert found == pytest.approx(expected, rel=0.05)
