"""Weight normalization and its data-dependent initialisation against NumPy and the paper's own statements."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.models import MODELS, initialise
from normtables.norms import METHODS, Kit

MAKE = {"linear": lambda: nn.Linear(5, 4), "conv1d": lambda: nn.Conv1d(3, 4, 2), "conv2d": lambda: nn.Conv2d(3, 4, 2)}
INPUTS = {"linear": [6, 5], "conv1d": [6, 3, 4], "conv2d": [6, 3, 4, 3]}
PRODUCT = {"linear": functional.linear, "conv1d": functional.conv1d, "conv2d": functional.conv2d}
CLOCK = {"step": 1, "epoch": 3}
SIZES = {"inputs": (2, 8, 8), "outputs": 5}


def method(**options):
    return METHODS.build({"name": "wn", **options})


def wrapped(kind):
    """A layer of float64 with gains off 1, its g and its v."""
    layer = method().wrap(MAKE[kind]()).double()
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    nn.init.normal_(g, 2.0, 0.5)
    return layer, g, v


def rows(tensor):
    return tensor.detach().numpy().reshape(len(tensor), -1)


@pytest.mark.parametrize("kind", MAKE)
def test_forward_and_gradients(kind):
    """w = g v / ||v||; dg = dw . v / ||v||, dv = g / ||v|| dw - g dg / ||v||^2 v."""
    layer, g, v = wrapped(kind)
    norms = np.sqrt((rows(v) ** 2).sum(1, keepdims=True))
    weight = torch.tensor((rows(g) * rows(v) / norms).reshape(v.shape), requires_grad=True)
    x = torch.randn(INPUTS[kind], dtype=torch.float64)
    outputs, expected = layer(x), PRODUCT[kind](x, weight, layer.bias)
    torch.testing.assert_close(outputs, expected)
    push = torch.randn_like(outputs)
    found = torch.autograd.grad((outputs * push).sum(), [g, v])
    dw = rows(torch.autograd.grad((expected * push).sum(), weight)[0])
    dg = (dw * rows(v)).sum(1, keepdims=True) / norms
    np.testing.assert_allclose(rows(found[0]), dg, rtol=1e-9)
    dv = rows(g) / norms * dw - rows(g) * dg / norms**2 * rows(v)
    np.testing.assert_allclose(rows(found[1]), dv, rtol=1e-9, atol=1e-12)


def test_gradcheck():
    layer, g, v = wrapped("conv1d")
    x = torch.randn(2, 3, 4, dtype=torch.float64)

    def f(g, v, bias):
        names = ("parametrizations.weight.original0", "parametrizations.weight.original1", "bias")
        return torch.func.functional_call(layer, dict(zip(names, (g, v, bias))), x)

    assert torch.autograd.gradcheck(f, (g, v, layer.bias))


@settings(max_examples=20, deadline=None)
@given(out=st.integers(1, 4), fan_in=st.integers(1, 5), scale=st.sampled_from([1e-3, 0.5, 40.0, 1e4]))
def test_the_scale_of_v_does_not_count_and_its_gradient_is_orthogonal(out, fan_in, scale):
    layer = method().wrap(nn.Linear(fan_in, out)).double()
    v, x = layer.parametrizations.weight.original1, torch.randn(3, fan_in, dtype=torch.float64)
    before, push = layer(x), torch.randn(3, out, dtype=torch.float64)
    (grad,) = torch.autograd.grad((before * push).sum(), v)
    with torch.no_grad():
        v.mul_(scale)
    after = layer(x)
    (scaled,) = torch.autograd.grad((after * push).sum(), v)
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(scaled * scale, grad, rtol=1e-8, atol=1e-10)
    assert (grad * v.detach() / scale).sum(1).abs().max() < 1e-10


def test_drawn_weights_are_the_plain_networks():
    nets = []
    for name in ("wn", "none"):
        torch.manual_seed(3)
        nets.append(MODELS.build({"name": "mlp", "widths": [4]}, Kit(METHODS.build({"name": name})), SIZES))
        initialise(nets[-1], "glorot_uniform")
    x = torch.randn(5, *SIZES["inputs"])
    torch.testing.assert_close(nets[0](x), nets[1](x))
    assert nets[0][2].parametrizations.weight.original0.shape == (4, 1)


def test_a_state_dict_carries_everything():
    (first, *_), (second, *_) = wrapped("conv2d"), wrapped("conv2d")
    x = torch.randn(INPUTS["conv2d"], dtype=torch.float64)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))
    assert torch.equal(first.train()(x), first.eval()(x))


# LSTM layers


@pytest.mark.parametrize("norm", ["wn", "wn_mean"])
def test_an_lstm_is_torchs_with_normalised_matrices(norm):
    """Values and gradients; every unit of every gate has a length of its own."""
    ours = METHODS.build({"name": norm}).recurrent(3, 4).double()
    for name in ("weight_ih_l0", "weight_hh_l0"):
        nn.init.normal_(ours.get_parameter(f"parametrizations.{name}.original0"), 1, 0.5)
    theirs, x = nn.LSTM(3, 4).double(), torch.randn(5, 2, 3, dtype=torch.float64)
    given = {}
    for name, _ in theirs.named_parameters():
        if name.startswith("weight"):
            g, v = (ours.get_parameter(f"parametrizations.{name}.original{i}") for i in (0, 1))
            assert g.shape == (16, 1)
            given[name] = g * v / v.norm(dim=1, keepdim=True)
        else:
            given[name] = ours.get_parameter(name)
    expected = torch.func.functional_call(theirs, given, (x,))
    torch.testing.assert_close(ours(x), expected)
    push = torch.randn(5, 2, 4, dtype=torch.float64)
    found = [torch.autograd.grad((y[0] * push).sum(), list(ours.parameters())) for y in (ours(x), expected)]
    torch.testing.assert_close(*found)


def test_an_lstm_begins_as_the_plain_one():
    layers = [METHODS.build({"name": norm}).recurrent(3, 4) for norm in ("wn", "none") if torch.manual_seed(1)]
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(layers[0](x), layers[1](x))


# data-dependent initialisation

SMALL = {"mlp": {"widths": [6, 4]}, "cnn4": {"widths": [4, 6], "hidden": 7, "dropout": [0.0, 0.0, 0.0]}}


def prepared(model, x):
    """A network of float64 after `prepare` with x as the first batch, and how often it was sent through."""
    chosen = method(data_init=True)
    net = MODELS.build({"name": model, **SMALL[model]}, Kit(chosen), SIZES).double()
    initialise(net, "glorot_uniform")
    passes = []

    def forward():
        passes.append(1)
        return net(x).sum()

    chosen.prepare(net, forward, CLOCK)
    return net, len(passes)


def products(net):
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def collect(net, x):
    """What every weight layer gives for x."""
    found, hooks = [], []
    for layer in products(net):
        hooks.append(layer.register_forward_hook(lambda layer, inputs, outputs: found.append(outputs)))
    net(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("model", SMALL)
def test_the_first_batch_gets_mean_0_and_variance_1_in_every_layer(model):
    x = torch.randn(20, 2, 8, 8, dtype=torch.float64) * 5 + 3
    net, passes = prepared(model, x)
    assert passes == 1
    found = collect(net, x)
    assert len(found) == len(products(net))
    for outputs in found:
        axes = [0, *range(2, outputs.dim())]
        torch.testing.assert_close(outputs.mean(axes), torch.zeros_like(outputs.mean(axes)), rtol=0, atol=1e-9)
        variance = outputs.var(axes, correction=0)
        torch.testing.assert_close(variance, torch.ones_like(variance))


def test_gains_and_biases_are_the_papers():
    """One layer: g = 1 / std(v . x / ||v||), b = - mean / std; v stays."""
    x = torch.randn(9, 5, dtype=torch.float64) + 2
    layer, g, v = wrapped("linear")
    kept = v.detach().clone()
    t = x.numpy() @ rows(v).T / np.sqrt((rows(v) ** 2).sum(1))
    method(data_init=True).prepare(nn.Sequential(layer), lambda: layer(x).sum(), CLOCK)
    np.testing.assert_allclose(g.detach().numpy()[:, 0], 1 / t.std(0), rtol=1e-9)
    np.testing.assert_allclose(layer.bias.detach().numpy(), -t.mean(0) / t.std(0), rtol=1e-9)
    assert torch.equal(v, kept)


def test_no_hook_and_no_graph_stays():
    x = torch.randn(7, 2, 8, 8, dtype=torch.float64)
    net, _ = prepared("mlp", x)
    assert not any(layer._forward_hooks for layer in net.modules())
    before = [p.detach().clone() for p in net.parameters()]
    net(torch.randn(7, 2, 8, 8, dtype=torch.float64) * 9)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before))
    assert all(p.requires_grad and p.is_leaf for p in net.parameters())


def test_a_layer_used_twice_is_initialised_by_its_first_use():
    layer, *_ = wrapped("linear")
    x, other = torch.randn(2, 8, 5, dtype=torch.float64)
    method(data_init=True).prepare(layer, lambda: (layer(x) + layer(other * 50)).sum(), CLOCK)
    torch.testing.assert_close(layer(x).std(0, correction=0), torch.ones(4, dtype=torch.float64))


def test_inputs_with_a_time_axis_are_standardised_per_unit():
    layer, *_ = wrapped("linear")
    x = torch.randn(3, 7, 5, dtype=torch.float64) * 4 + 1
    method(data_init=True).prepare(layer, lambda: layer(x).sum(), CLOCK)
    outputs = layer(x).flatten(0, 1)
    torch.testing.assert_close(outputs.std(0, correction=0), torch.ones(4, dtype=torch.float64))
    assert outputs.mean(0).abs().max() < 1e-9


def test_a_constant_unit_keeps_its_scale():
    layer, g, _ = wrapped("linear")
    before = g.detach().clone()
    x = torch.ones(6, 5, dtype=torch.float64) * 3
    method(data_init=True).prepare(layer, lambda: layer(x).sum(), CLOCK)
    assert torch.equal(g, before)
    assert layer(x).abs().max() < 1e-12


def test_a_batch_of_one_has_no_variance():
    with pytest.raises(UserError, match="batch_size") as error:
        prepared("mlp", torch.randn(1, 2, 8, 8, dtype=torch.float64))
    assert "\n" not in str(error.value)


def test_half_precision_outputs_keep_full_gains():
    chosen = method(data_init=True)
    layer = chosen.wrap(nn.Linear(5, 4))
    x = torch.randn(50, 5) * 3
    with torch.autocast("cpu", torch.bfloat16):
        chosen.prepare(layer, lambda: layer(x).sum(), CLOCK)
    assert layer.parametrizations.weight.original0.dtype == torch.float32
    torch.testing.assert_close(layer(x).std(0, correction=0), torch.ones(4), rtol=0.02, atol=0)


def test_without_being_asked_nothing_is_initialised():
    layer, *_ = wrapped("linear")
    before = {k: t.clone() for k, t in layer.state_dict().items()}
    method().prepare(layer, lambda: pytest.fail("a batch was taken"), CLOCK)
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)


def test_a_bad_option_is_refused():
    with pytest.raises(UserError, match="data_init"):
        method(data_init="yes")
