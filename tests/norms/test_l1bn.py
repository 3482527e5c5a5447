"""L1 batch normalization: what its scale estimates, and its gradient where a value is the mean."""

import math

import pytest
import torch

from normtables.norms import METHODS


def build(channels=3, dims=0, **options):
    return METHODS.build({"name": "l1bn", **options}).norm(channels, dims).double()


@pytest.mark.parametrize("m", [2, 3, 8])
def test_the_scale_estimates_the_deviation_of_gaussian_inputs(m):
    """E[s] = sigma sqrt(1 - 1/m): each x - mean has that deviation, and E|z| = sqrt(2/pi) of it."""
    channels, sigma = 200_000, 3.0
    layer = build(channels, momentum=1.0)
    layer(torch.randn(m, channels, dtype=torch.float64) * sigma + 7)
    error = 5 * sigma / math.sqrt(channels)  # the deviation of s is below sigma
    assert layer.running_scale.mean().item() == pytest.approx(sigma * math.sqrt(1 - 1 / m), abs=error)


@pytest.mark.parametrize("dims", [0, 2])
def test_outputs_have_mean_0_and_mean_deviation_1(dims):
    x = torch.randn([64, 3, 2, 2][: dims + 2], dtype=torch.float64) * 5 - 3
    y = build(dims=dims, epsilon=1e-12)(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(y.abs().mean(1), torch.full((3,), math.sqrt(2 / math.pi), dtype=torch.float64))


def test_epsilon_is_added_to_the_scale():
    x = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    y = build(1, epsilon=0.5)(x)
    torch.testing.assert_close(y, (x - 2) / (math.sqrt(math.pi / 2) + 0.5))


def test_it_is_blind_to_shift_and_scale_of_its_inputs():
    layer = build(epsilon=1e-12)
    x = torch.randn(9, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(4 * x - 2), layer(x))


def test_a_value_at_the_mean_has_the_middle_of_both_derivatives():
    x = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    push = torch.tensor([[1.0], [2.0], [5.0]], dtype=torch.float64)
    (got,) = torch.autograd.grad((build(1)(x) * push).sum(), [x])
    inputs = x.detach().requires_grad_()
    centred = inputs - inputs.mean(0)
    y = centred / (math.sqrt(math.pi / 2) * centred.abs().mean(0) + 1e-5)  # torch's |z| has derivative 0 at 0
    (plain,) = torch.autograd.grad((y * push).sum(), [inputs])
    torch.testing.assert_close(got, plain)


def test_one_derivative_is_all_there_is():
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(build()(x).pow(3).sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
