"""The statistics behind cells and claims: summaries, differences, equivalence, Holm's correction and average ranks."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy  # scipy.stats is loaded by its first use: planning needs none of it and it takes a second

CONFIDENCE = 0.95
SMALL = 10  # up to this many values an interval is Student's, above it is bootstrapped


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (ddof 1) and 95 % interval of `n` values; what `n` cannot give is nan."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A difference of means with its 95 % interval and the p-value of the test that made it."""

    value: float
    low: float
    high: float
    p: float


def moments(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean, variance (ddof 1, nan below two values) and count; equal values give exactly that value and variance 0."""
    array = np.asarray(values, dtype=float)
    n = array.size
    if n == 0:
        return math.nan, math.nan, 0
    if (array == array[0]).all():
        return float(array[0]), math.nan if n == 1 else 0.0, n
    return float(array.mean()), float(array.var(ddof=1)), n


def firm(value: float) -> float:
    """The value to twelve digits: sums of the same numbers in another order differ behind them, and are a tie."""
    return float(f"{value:.12g}")


def summary(values: Sequence[float]) -> Summary:
    """Summarise values: a t interval for up to ten of them, a BCa bootstrap interval (fixed seed) for more."""
    mean, variance, n = moments(values)
    if n < 2:
        return Summary(mean, math.nan, math.nan, math.nan, n)
    if variance == 0:
        return Summary(mean, 0.0, mean, mean, n)
    low, high = t_interval(mean, math.sqrt(variance / n), n - 1) if n <= SMALL else bootstrap_interval(values)
    return Summary(mean, math.sqrt(variance), low, high, n)


def t_interval(center: float, error: float, freedom: float) -> tuple[float, float]:
    """Student's 95 % interval around `center` with standard error `error`."""
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return center - half, center + half


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % BCa bootstrap interval of the mean, always with the same draws."""
    found = scipy.stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Difference of the means of `a` and `b`, its standard error and degrees of freedom (nan below two values)."""
    (mean_a, var_a, n_a), (mean_b, var_b, n_b) = moments(a), moments(b)
    if n_a < 2 or n_b < 2:
        return mean_a - mean_b, math.nan, math.nan
    part_a, part_b = var_a / n_a, var_b / n_b
    total = part_a + part_b
    if total == 0:
        return mean_a - mean_b, 0.0, math.inf
    freedom = 1 / ((part_a / total) ** 2 / (n_a - 1) + (part_b / total) ** 2 / (n_b - 1))
    return mean_a - mean_b, math.sqrt(total), freedom


def paired(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the differences of pairs, its standard error and degrees of freedom (nan below two pairs)."""
    mean, variance, n = moments(np.subtract(a, b).tolist())
    return mean, math.sqrt(variance / n) if n > 1 else math.nan, n - 1


def p_above(center: float, error: float, freedom: float, bound: float) -> float:
    """One-sided p-value for `center` lying above `bound`; without any spread it is 0 above and 1 at or below."""
    if math.isnan(error):
        return math.nan
    if error == 0:
        return 0.0 if center > bound else 1.0
    return float(scipy.stats.t.sf((center - bound) / error, freedom))


def above(value: float, error: float, freedom: float) -> Difference:
    """One-sided test that `value` (of `welch` or `paired`) is above zero, with its 95 % interval."""
    low, high = (value, value) if error == 0 else t_interval(value, error, freedom)
    return Difference(value, low, high, p_above(value, error, freedom, 0.0))


def equals(values: Sequence[float], constant: float, margin: float) -> Difference:
    """Two one-sided t tests that the mean is within `margin` of `constant`; `p` is the larger of the two."""
    mean, variance, n = moments(values)
    return within(mean - constant, math.sqrt(variance / n) if n > 1 else math.nan, n - 1, margin)


def within(value: float, error: float, freedom: float, margin: float) -> Difference:
    """Two one-sided tests that `value` lies between -margin and margin, with the 95 % interval of `value`."""
    if error == 0:
        return Difference(value, value, value, 0.0 if abs(value) <= margin else 1.0)
    low, high = t_interval(value, error, freedom)
    p = max(p_above(value, error, freedom, -margin), p_above(-value, error, freedom, -margin))
    return Difference(value, low, high, p)


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    p = np.asarray(pvalues, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def average_ranks(frame: pd.DataFrame, better: str) -> pd.Series:
    """Mean rank of each column (method) over the rows (data sets), 1 the best, ties averaged.

    Raises ValueError where a value is missing, since a mean over other data sets would not be comparable.
    """
    if frame.isna().to_numpy().any():
        raise ValueError("ranks need every method on every data set")
    return frame.rank(axis=1, method="average", ascending=better == "lower").mean()


def rank_differences(frame: pd.DataFrame, better: str) -> pd.Series:
    """Average ranks less the rank that chance gives, (methods + 1) / 2 (Klambauer et al. 2017, A4.2)."""
    return average_ranks(frame, better) - (frame.shape[1] + 1) / 2


def wilcoxon(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test over paired values; 1 when no pair differs.

    An infinite value makes the largest difference, two of the same sign none.
    """
    with np.errstate(invalid="ignore"):
        found = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    gaps = np.where(np.isnan(found), 0.0, found).round(9)  # equal differences of scores are a tie
    if not gaps.any():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zeros and ties make scipy fall back to the normal approximation
        return float(scipy.stats.wilcoxon(gaps).pvalue)


def friedman(frame: pd.DataFrame) -> tuple[float, float]:
    """Friedman's statistic and p-value for columns (methods) measured on the same rows (data sets).

    0 and 1 where no two methods differ anywhere.
    """
    if frame.eq(frame.iloc[:, 0], axis=0).to_numpy().all():
        return 0.0, 1.0
    found = scipy.stats.friedmanchisquare(*(frame[name] for name in frame))
    return float(found.statistic), float(found.pvalue)


def nemenyi_cd(methods: int, sets: int, level: float = 0.05) -> float:
    """Nemenyi's critical difference of average ranks (Demsar 2006, equation 6)."""
    quantile = float(scipy.stats.studentized_range.ppf(1 - level, methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * sets))
