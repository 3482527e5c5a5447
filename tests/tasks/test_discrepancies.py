"""Losses on the features of two domains: closed forms, and double loops in float64."""

import math

import pytest
import torch

from normtables.tasks.discrepancies import MULTIPLES, covariances, kernels, means

LOSSES = {"ddc": means, "coral": covariances, "linear": kernels("linear"), "quadratic": kernels("quadratic")}


def pair(n=7, d=5, shift=0.7):
    return torch.randn(n, d, dtype=torch.float64), torch.randn(n, d, dtype=torch.float64) * 1.5 + shift


def k(x, y, width):
    return sum(math.exp(-((x - y) ** 2).sum().item() / (m * width)) for m in MULTIPLES)


def width_of(source, target):
    """The mean squared distance of two different rows, by a double loop."""
    rows = torch.cat([source, target])
    n = len(rows)
    total = sum(((rows[i] - rows[j]) ** 2).sum().item() for i in range(n) for j in range(n) if i != j)
    return total / (n * (n - 1))


def test_ddc_is_the_squared_distance_of_means():
    source, target = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    assert means(source, target).item() == pytest.approx((2 - 1) ** 2 + (3 - 1) ** 2)


def test_deep_coral_by_hand():
    """Covariances [[2, 0], [0, 0]] and [[0, 0], [0, 8]]: (4 + 64) / (4 * 4)."""
    source, target = torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([[5.0, 0.0], [5.0, 4.0]])
    assert covariances(source, target).item() == pytest.approx(68 / 16)


def test_deep_coral_is_that_of_centred_products():
    source, target = pair(9, 4)
    found = []
    for x in (source, target):
        centred = x - x.mean(0)
        found.append(sum(torch.outer(row, row) for row in centred) / (len(x) - 1))
    expected = sum((a - b).item() ** 2 for a, b in zip(found[0].flatten(), found[1].flatten())) / (4 * 4**2)
    assert covariances(source, target).item() == pytest.approx(expected, rel=1e-12)


def test_dan_over_neighbours_is_the_loop():
    source, target = pair()
    width, n = width_of(source, target), len(source)
    total = 0.0
    for i in range(n):
        j = (i + 1) % n
        total += k(source[i], source[j], width) + k(target[i], target[j], width)
        total -= k(source[i], target[j], width) + k(source[j], target[i], width)
    assert LOSSES["linear"](source, target).item() == pytest.approx(total / n, rel=1e-10)


def test_dan_over_all_pairs_is_the_double_loop():
    source, target = pair(6)[0], pair(8)[1]
    width = width_of(source, target)

    def within(x):
        n = len(x)
        return sum(k(x[i], x[j], width) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    across = sum(k(a, b, width) for a in source for b in target) / (len(source) * len(target))
    assert LOSSES["quadratic"](source, target).item() == pytest.approx(
        within(source) + within(target) - 2 * across, rel=1e-10
    )


def test_the_widths_are_a_quarter_to_four_times_the_mean_distance():
    assert MULTIPLES == (1 / 4, 1 / 2, 1, 2, 4)


def test_the_two_estimators_estimate_the_same():
    """Of the same two distributions, over many examples."""
    found = [LOSSES[name](*pair(800, 3, 1.0)).item() for name in ("linear", "quadratic")]
    assert found[0] == pytest.approx(found[1], rel=0.25)
    assert min(found) > 0.2


@pytest.mark.parametrize("name", ["linear", "quadratic"])
def test_no_gradient_flows_through_the_widths(name):
    """The derivative along one direction is that of the loss with its width held."""
    source, target = pair(5, 3)
    source.requires_grad_()
    LOSSES[name](source, target).backward()
    direction, step, width = torch.randn(5, 3, dtype=torch.float64), 1e-6, width_of(source.detach(), target)

    def held(x):
        if name == "linear":
            found = [(x, x.roll(-1, 0), 1), (target, target.roll(-1, 0), 1)]
            found += [(x, target.roll(-1, 0), -1), (x.roll(-1, 0), target, -1)]
            return sum(sign * sum(k(a, b, width) for a, b in zip(u, v)) / 5 for u, v, sign in found)
        ours = sum(k(x[i], x[j], width) for i in range(5) for j in range(5) if i != j) / 20
        return ours - 2 * sum(k(a, b, width) for a in x for b in target) / 25

    with torch.no_grad():
        expected = (held(source + step * direction) - held(source - step * direction)) / (2 * step)
    assert (source.grad * direction).sum().item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_like_domains_are_near_and_others_far(name):
    near, far = (LOSSES[name](*pair(200, 4, 0.0)), LOSSES[name](torch.randn(200, 4), torch.randn(200, 4) * 4 + 3))
    assert far > 3 * near.abs()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_features_are_all_alike(name, dtype):
    """As behind a layer that is dead."""
    for value in (0.0, 3.0):
        source, target = (torch.full((6, 4), value, dtype=dtype, requires_grad=True) for _ in range(2))
        loss = LOSSES[name](source, target)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(source.grad).all()
        assert torch.isfinite(target.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_target_gets_a_gradient_too(name):
    source, target = (x.requires_grad_() for x in pair())
    LOSSES[name](source, target).backward()
    assert (source.grad != 0).any()
    assert (target.grad != 0).any()
