"""Mean-only batch normalization on top of weight normalization."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit

SHAPES = st.tuples(st.integers(2, 5), st.integers(1, 4), *[st.integers(1, 3)] * 2).flatmap(
    lambda sizes: st.sampled_from([sizes[:2], sizes[:3], sizes])
)


def build(channels=3, dims=0, **options):
    return METHODS.build({"name": "wn_mean", **options}).norm(channels, dims).double()


def by_channel(t):
    """[channels, values] of [n, channels, ...]."""
    return np.moveaxis(t, 1, 0).reshape(t.shape[1], -1)


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, momentum=st.sampled_from([0.1, 0.7, 1.0]), seed=st.integers(0, 99))
def test_outputs_gradients_and_running_mean(shape, momentum, seed):
    rng = np.random.default_rng(seed)
    layer, running = build(shape[1], len(shape) - 2, momentum=momentum), np.zeros(shape[1])
    along = [-1] + [1] * (len(shape) - 2)
    for _ in range(2):
        t, push, bias = rng.normal(2, 3, shape), rng.normal(size=shape), rng.normal(size=shape[1])
        with torch.no_grad():
            layer.bias.copy_(torch.tensor(bias))
        inputs = torch.tensor(t, requires_grad=True)
        outputs = layer(inputs)
        grads = torch.autograd.grad((outputs * torch.tensor(push)).sum(), [inputs, layer.bias])
        mean = by_channel(t).mean(1)
        np.testing.assert_allclose(outputs.detach(), t - mean.reshape(along) + bias.reshape(along), atol=1e-12)
        np.testing.assert_allclose(grads[0], push - by_channel(push).mean(1).reshape(along), atol=1e-12)
        np.testing.assert_allclose(grads[1], by_channel(push).sum(1), atol=1e-12)
        running = momentum * mean + (1 - momentum) * running
        np.testing.assert_allclose(layer.running_mean, running, atol=1e-12)
    layer.eval()
    t = torch.tensor(rng.normal(2, 3, shape))
    shift = torch.tensor((bias - running).reshape(along))
    torch.testing.assert_close(layer(t), t + shift)
    torch.testing.assert_close(layer(t[:1]), (t + shift)[:1])


@pytest.mark.parametrize("ghost", [0, 4])
@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("use", ["batch", "running"])
@pytest.mark.parametrize("flow", [True, False])
def test_the_shared_options(ghost, update, use, flow):
    """Chunk by chunk: which mean is subtracted, whether it moves, and whether the gradient goes through it."""
    layer = build(momentum=0.25, ghost=ghost, update=update, use=use, flow=flow)
    layer.running_mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
    running = layer.running_mean.numpy().copy()
    for _ in range(2):
        t, push = (torch.randn(10, 3, dtype=torch.float64) for _ in range(2))
        inputs = t.clone().requires_grad_()
        y = layer(inputs)
        (grad,) = torch.autograd.grad((y * push).sum(), inputs)
        expected, expected_grad = [], []
        for part, pushed in zip(*(np.array_split(one.numpy(), 3 if ghost else 1) for one in (t, push))):
            new = 0.75 * running + 0.25 * part.mean(0)
            running = new if update else running
            expected.append(part - (part.mean(0) if use == "batch" else running))
            share = flow * (1.0 if use == "batch" else 0.25 * update)
            expected_grad.append(pushed - share * pushed.mean(0))
        np.testing.assert_allclose(y.detach(), np.concatenate(expected), atol=1e-12)
        np.testing.assert_allclose(grad, np.concatenate(expected_grad), atol=1e-12)
        np.testing.assert_allclose(layer.running_mean, running, atol=1e-12)


def test_a_frozen_layer_takes_one_example():
    layer = build(use="running", update=False)
    t = torch.randn(1, 3, dtype=torch.float64)
    assert torch.equal(layer(t), layer.eval()(t))


def test_gradcheck():
    t = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: build(2, 1)(t), t)


def test_a_shift_of_the_inputs_does_not_count_but_their_scale_does():
    layer, t = build(), torch.randn(6, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(t + 100), layer(t))
    torch.testing.assert_close(layer(3 * t), 3 * layer(t))


def test_a_state_dict_carries_everything():
    first, second = build(), build()
    nn.init.normal_(first.bias)
    first(torch.randn(4, 3, dtype=torch.float64))
    second.load_state_dict(first.state_dict())
    t = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(first.eval()(t), second.eval()(t))
    assert not first.running_mean.requires_grad


@pytest.mark.parametrize("shape", [[1, 3], [1, 3, 1, 1]])
def test_a_batch_of_one_value_has_no_mean_to_take(shape):
    layer = build(dims=len(shape) - 2)
    with pytest.raises(UserError, match="batch_size") as error:
        layer(torch.ones(shape, dtype=torch.float64))
    assert "\n" not in str(error.value)
    layer.eval()(torch.ones(shape, dtype=torch.float64))


def test_half_precision_inputs_keep_a_full_mean():
    layer = METHODS.build({"name": "wn_mean"}).norm(3, 0)
    t = torch.randn(64, 3).bfloat16()
    y = layer(t)
    assert y.dtype == torch.bfloat16
    assert layer.running_mean.dtype == torch.float32
    torch.testing.assert_close(layer.running_mean, 0.1 * t.float().mean(0))


def test_hidden_layers_are_weight_normalised_without_bias_and_the_last_one_with():
    kit = Kit(METHODS.build({"name": "wn_mean"}))
    hidden, head = kit.linear(5, 4), kit.head(4, 3)
    assert hidden.bias is None
    assert head.bias is not None
    for layer in (hidden, head):
        weights = layer.parametrizations.weight
        norms = weights.original1.norm(dim=1, keepdim=True)
        torch.testing.assert_close(layer.weight, weights.original0 * weights.original1 / norms)


def test_data_init_gives_the_first_batch_mean_0_and_variance_1():
    sizes = {"inputs": (2, 8, 8), "outputs": 5}
    method = METHODS.build({"name": "wn_mean", "data_init": True})
    options = {"widths": [4, 6], "hidden": 7, "dropout": [0.0, 0.0, 0.0]}
    net = MODELS.build({"name": "cnn4", **options}, Kit(method), sizes).double()
    x, found = torch.randn(20, 2, 8, 8, dtype=torch.float64) * 5 + 3, []
    method.prepare(net, lambda: net(x).sum(), {"step": 1})
    for layer in net.modules():
        if type(layer).__name__ == "MeanOnlyBatchNorm":
            layer.register_forward_hook(lambda layer, inputs, outputs: found.append(outputs))
    found.append(net(x))
    assert len(found) == 6
    for outputs in found:
        axes = [0, *range(2, outputs.dim())]
        assert outputs.mean(axes).abs().max() < 1e-9
        torch.testing.assert_close(outputs.var(axes, correction=0), torch.ones_like(outputs.mean(axes)))


@pytest.mark.parametrize(
    "options",
    [{"momentum": 0}, {"momentum": 1.1}, {"momentum": "fast"}, {"data_init": 1}, {"ghost": -1}, {"use": "all"}],
    ids=str,
)
def test_bad_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        METHODS.build({"name": "wn_mean", **options})
    assert "\n" not in str(error.value)


def test_without_being_asked_nothing_is_initialised():
    METHODS.build({"name": "wn_mean"}).prepare(nn.Linear(2, 2), lambda: pytest.fail("a batch was taken"), {"step": 1})
