"""Weights on spheres against NumPy: values, gradients, drawing, state."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from normtables.models import draw, initialise
from normtables.norms.spheres import LearnedSphere, Sphere, on_sphere

EPSILON = 0.05  # large, so that a misplaced one is seen


def reference(v, gain, centred, epsilon):
    """w and the pull-back of a gradient of w to v, row by row."""
    rows = v.reshape(len(v), -1)
    d = rows - rows.mean(1, keepdims=True) if centred else rows
    norm = np.sqrt((d**2).sum(1, keepdims=True))
    gain = np.broadcast_to(np.reshape(gain, (-1, 1)), norm.shape)

    def back(push):
        push = push.reshape(rows.shape)
        along = (push * d).sum(1, keepdims=True)
        grad = gain * (push / (norm + epsilon) - d * along / norm / (norm + epsilon) ** 2)
        return (grad - grad.mean(1, keepdims=True) if centred else grad).reshape(v.shape)

    return (gain * d / (norm + epsilon)).reshape(v.shape), back


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("learned", [False, True])
@settings(max_examples=25, deadline=None)
@given(shape=st.lists(st.integers(1, 4), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_weights_and_gradients(centred, learned, shape, seed):
    rng = np.random.default_rng(seed)
    v, push, gains = rng.normal(1, 2, shape), rng.normal(size=shape), rng.normal(1, 1, shape[:1])
    sphere = (LearnedSphere if learned else Sphere)(1.7, centred, EPSILON)
    inputs = [torch.tensor(v, requires_grad=True)]
    if learned:
        inputs.insert(0, torch.tensor(gains.reshape([-1] + [1] * (len(shape) - 1)), requires_grad=True))
    w = sphere(*inputs)
    *g_grad, v_grad = torch.autograd.grad((w * torch.tensor(push)).sum(), inputs)
    if centred and v[0].size == 1:
        assert (w == 0).all()
        assert (v_grad == 0).all()
        return
    expected, back = reference(v, gains if learned else 1.7, centred, EPSILON)
    np.testing.assert_allclose(w.detach(), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(v_grad, back(push), rtol=1e-8, atol=1e-10)
    if learned:
        unit = reference(v, 1.0, centred, EPSILON)[0]
        np.testing.assert_allclose(g_grad[0].flatten(), (unit * push).reshape(len(v), -1).sum(1), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("centred", [False, True])
def test_gradcheck(centred):
    v = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    g = torch.randn(3, 1, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Sphere(2.0, centred, EPSILON), v)
    assert torch.autograd.gradcheck(LearnedSphere(2.0, centred, EPSILON), (g, v))


def scheme(weight):
    nn.init.normal_(weight, 1.0, 3.0, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    "layer", [nn.Linear(6, 4), nn.Conv1d(3, 4, 2), nn.Conv2d(3, 4, 2)], ids=lambda x: type(x).__name__
)
def test_a_drawn_weight_gives_the_direction(layer, learned):
    layer = on_sphere(copy.deepcopy(layer).double(), (LearnedSphere if learned else Sphere)(2.5))
    bias = layer.bias.detach().clone()
    with torch.no_grad():
        layer.weight = layer.weight * 7  # moved before
        if learned:
            layer.parametrizations.weight.original0.fill_(9.0)
    draw(layer, scheme)
    plain = torch.empty_like(layer.weight)
    scheme(plain)
    norms = plain.flatten(1).norm(dim=1).view([-1] + [1] * (plain.dim() - 1))
    torch.testing.assert_close(layer.weight, 2.5 * plain / norms)
    assert torch.equal(layer.bias, bias)
    assert all(p.requires_grad for p in layer.parameters())
    assert len(list(layer.parameters())) == (3 if learned else 2)


def test_every_scheme_draws_it():
    layer = on_sphere(nn.Linear(50, 40), Sphere(3.0))
    before = layer.weight.detach().clone()
    initialise(layer, "he_normal")
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.full([40], 3.0))
    assert not torch.allclose(layer.weight, before)
    assert (layer.bias == 0).all()


@pytest.mark.parametrize("learned", [False, True])
def test_a_state_dict_carries_everything(learned):
    first, second = (
        on_sphere(nn.Conv2d(2, 3, 2), (LearnedSphere if learned else Sphere)(2.0, True, 1e-5)) for _ in range(2)
    )
    if learned:
        nn.init.normal_(first.parametrizations.weight.original0)
    second.load_state_dict(first.state_dict())
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(first(x), second(x))
