"""Batch renormalization: its schedule, its corrections, and that training and test agree where the limits are wide."""

import pytest
import torch

from normtables.errors import UserError
from normtables.norms import METHODS

WIDE = {"r_max": 1e6, "d_max": 1e6, "warmup": 0, "r_until": 1, "d_until": 1}


def build(channels=3, dims=0, **options):
    return METHODS.build({"name": "brn", **options}).norm(channels, dims).double()


@pytest.mark.parametrize(
    ("step", "r_max", "d_max"),
    [
        (1, 1, 0),
        (5_000, 1, 0),
        (15_000, 1 + 2 * 10 / 35, 2.5),
        (25_000, 1 + 2 * 20 / 35, 5),
        (40_000, 3, 5),
        (10**7, 3, 5),
    ],
)
def test_the_published_schedule_is_the_default(step, r_max, d_max):
    """Ioffe 2017, section 4: limits 1 and 0 for 5,000 steps, then r_max 3 at 40,000 and d_max 5 at 25,000."""
    layer = build()
    layer.steps.fill_(step)
    assert [limit.item() for limit in layer.limits()] == pytest.approx([r_max, d_max])


def test_a_schedule_without_a_ramp_jumps():
    layer = build(warmup=3, r_until=3, d_until=3)
    for step, limits in ((3, [1, 0]), (4, [3, 5])):
        layer.steps.fill_(step)
        assert [limit.item() for limit in layer.limits()] == limits


def test_training_passes_are_counted_once_and_test_passes_never():
    layer = build(ghost=2)
    for _ in range(3):
        layer(torch.randn(8, 3, dtype=torch.float64))
    assert layer.steps == 3
    layer.eval()(torch.randn(8, 3, dtype=torch.float64))
    assert layer.steps == 3


def test_the_limits_of_a_pass_count_that_pass():
    """With warmup 1 the first pass is batch normalization, the second is not."""
    layer = build(warmup=1, r_until=1, d_until=1)
    x = torch.randn(6, 3, dtype=torch.float64) * 2 + 1
    first, second = layer(x), layer(x)
    torch.testing.assert_close(first.mean(0), torch.zeros(3, dtype=torch.float64))
    assert (second.mean(0).abs() > 0.1).any()


def test_with_wide_limits_training_and_test_compute_the_same():
    """The paper's purpose (section 3): outputs are those of the moving statistics, whatever else is in the batch."""
    layer = build(dims=2, **WIDE)
    layer.running_mean.normal_()
    layer.running_std.uniform_(0.5, 2)
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64) * 3 + 2
    in_test = layer.eval()(x)
    layer.train()
    torch.testing.assert_close(layer(x), in_test)


def test_the_gradient_is_that_of_batch_normalization_times_r():
    """No gradient through r and d (section 3), but through the batch's mean and deviation."""
    layer = build(**WIDE)
    layer.running_std.fill_(0.5)
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    push = torch.randn(6, 3, dtype=torch.float64)
    (got,) = torch.autograd.grad((layer(x) * push).sum(), [x])
    y = torch.nn.functional.batch_norm(x, None, None, None, None, True, 0.0, 1e-5)
    (plain,) = torch.autograd.grad((y * push).sum(), [x])
    r = (x.var(0, correction=0) + 1e-5).sqrt() / 0.5
    torch.testing.assert_close(got, plain * r)
    torch.testing.assert_close(got.sum(0), torch.zeros(3, dtype=torch.float64))  # blind to a shift of the whole batch


def test_gradcheck_where_both_corrections_are_at_their_limits():
    """There r and d are constants, so that the derivative is the whole one."""
    options = {"r_max": 1.1, "d_max": 0.1, "warmup": 0, "r_until": 0, "d_until": 0}

    def forward(x):
        layer = build(dims=1, **options)
        layer.running_mean.fill_(5)
        layer.running_std.fill_(0.01)
        return layer(x)

    assert torch.autograd.gradcheck(forward, torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True))


def test_the_moving_deviation_is_averaged_and_not_the_variance():
    layer = build(momentum=0.5, epsilon=0.25)
    x = torch.randn(6, 3, dtype=torch.float64) * 4 + 3
    layer(x)
    torch.testing.assert_close(layer.running_mean, x.mean(0) / 2)
    torch.testing.assert_close(layer.running_std, 0.5 + (x.var(0, correction=0) + 0.25).sqrt() / 2)


def test_one_derivative_is_all_there_is():
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(build()(x).pow(3).sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(
    "options",
    [
        {"r_max": 0.9},
        {"r_max": float("nan")},
        {"r_max": float("inf")},
        {"d_max": -0.1},
        {"d_max": float("nan")},
        {"warmup": -1},
        {"r_until": 4_999},
        {"d_until": 4_999},
        {"warmup": 1.5},
    ],
    ids=str,
)
def test_impossible_limits_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        build(**options)
    assert "\n" not in str(error.value)
