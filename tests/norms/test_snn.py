"""Self-normalizing networks: the fixed point (0, 1) and its pull, alpha dropout and LeCun's draw against the paper."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import nn

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit
from normtables.training.run import execute

SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # equation 14


def snn(**options):
    return METHODS.build({"name": "snn", **options})


def network(depth, width, dropout=0.0):
    """`depth` layers as a model builds them, drawn as a run draws them."""
    method = snn()
    kit = Kit(method)
    layers = [nn.Sequential(kit.linear(width, width), kit.norm_act(width), kit.dropout(dropout)) for _ in range(depth)]
    net = nn.Sequential(*layers)
    method.init(net)
    return net


def selu(z):
    return SCALE * (z if z > 0 else ALPHA * math.expm1(z))


def gaussian_mean(f, mu, nu):
    """E[f(z)] for z from N(mu, nu), by scipy."""

    def density(z):
        return f(z) * math.exp(-((z - mu) ** 2) / (2 * nu)) / math.sqrt(2 * math.pi * nu)

    return sum(quad(density, *ends, epsabs=1e-13)[0] for ends in ((-12, 0), (0, 12)))


def mapped(mu, nu):
    """Equations 4 and 5: the moments behind a layer of normalised weights (omega 0, tau 1) for moments before it."""
    z = (0.0, nu + mu**2)
    mean, square = gaussian_mean(selu, *z), gaussian_mean(lambda v: selu(v) ** 2, *z)
    return mean, square - mean**2


def test_zero_mean_unit_variance_is_the_fixed_point_of_the_layers_selu():
    assert mapped(0.0, 1.0) == pytest.approx((0, 1), abs=1e-12)
    act = Kit(snn()).norm_act(1)
    z = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(act(z), torch.tensor([selu(v) for v in z.tolist()], dtype=torch.float64))


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.0, 2.0), (1.0, 0.5), (-0.8, 0.4), (0.0, 0.3)])
@pytest.mark.parametrize("dropout", [0.0, 0.05])
def test_the_fixed_point_attracts_through_64_layers(mean, deviation, dropout):
    """Theorem 1; the first layer follows the paper's map, the last one is near (0, 1)."""
    width = 500
    net = network(64, width, dropout)
    x = mean + deviation * torch.randn(200, width)
    first = net[0][1](net[0][0](x))
    expected = mapped(mean, deviation**2)
    assert first.mean().item() == pytest.approx(expected[0], abs=0.12)
    assert first.var().item() == pytest.approx(expected[1], rel=0.2)
    y = net(x)
    assert abs(y.mean().item()) < 0.1
    assert y.var().item() == pytest.approx(1, abs=0.15)


def test_without_the_draw_the_network_does_not_normalise_itself():
    """torch's own draw has a third of the variance: the test above tests the draw."""
    net = network(64, 200)
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    assert net(torch.randn(100, 200)).var().item() < 0.5


def test_every_weight_layer_is_drawn_with_variance_one_over_fan_in():
    layers = {300: nn.Linear(300, 200), 270: nn.Conv2d(30, 60, 3), 180: nn.Conv1d(60, 90, 3)}
    head = nn.Linear(400, 100)
    net = nn.Sequential(*layers.values(), nn.BatchNorm1d(5), head)
    for layer in net:
        nn.init.constant_(layer.bias, 3.0)
    snn().init(net)
    for fan_in, layer in [*layers.items(), (400, head)]:
        assert layer.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.03)
        assert abs(layer.weight.mean().item()) < 0.02 * fan_in**-0.5 * 2
        assert layer.weight.abs().max() > 3 * fan_in**-0.5, "normal, not uniform"
        assert (layer.bias == 0).all()
    assert (net[3].bias == 3).all()


def test_a_layer_without_bias_is_drawn_too():
    layer = nn.Linear(100, 50, bias=False)
    nn.init.zeros_(layer.weight)
    snn().init(layer)
    assert layer.weight.std().item() == pytest.approx(0.1, rel=0.1)


def test_selu_replaces_any_nonlinearity_and_nothing_is_normalised():
    kit = Kit(snn(), nn.Tanh)
    norm, act = kit.norm_act(5, 2)
    assert isinstance(norm, nn.Identity)
    assert isinstance(act, nn.SELU)
    assert kit.bias


@given(rate=st.floats(0.01, 0.9))
@settings(max_examples=15, deadline=None)
def test_alpha_dropout_is_the_papers(rate):
    """A dropped value becomes alpha' = -lambda alpha; then a x + b with section 3's a and b for keep probability q."""
    layer = Kit(snn()).dropout(rate)
    q, low = 1 - rate, -SCALE * ALPHA
    a = (q + low**2 * q * (1 - q)) ** -0.5
    b = -a * (1 - q) * low
    x = torch.linspace(-1, 2, 3000, dtype=torch.float64)
    y = layer(x)
    kept = (y - (a * x + b)).abs() < 1e-6
    assert ((y - (a * low + b)).abs() < 1e-6)[~kept].all()
    assert kept.double().mean().item() == pytest.approx(q, abs=0.06)
    layer.eval()
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize(("option", "rate"), [(None, 0.3), (0.05, 0.05), (0, 0)])
def test_the_rate_is_the_models_or_the_options(option, rate):
    method = snn(dropout=option)
    assert isinstance(method.dropout(0.3), nn.AlphaDropout)
    assert method.dropout(0.3).p == rate


@pytest.mark.parametrize("dropout", [1, -0.1, float("nan"), "half", True])
def test_bad_rates_are_refused(dropout):
    with pytest.raises(UserError, match="dropout") as error:
        snn(dropout=dropout)
    assert "\n" not in str(error.value)


def test_gradients():
    net = network(2, 3).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, x)


def test_nothing_is_kept_but_weights_and_biases():
    net = network(2, 3, dropout=0.1)
    assert set(net.state_dict()) == {f"{i}.0.{part}" for i in range(2) for part in ("weight", "bias")}


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_types_and_batch_size_1(n, dtype):
    net = network(2, 6, dropout=0.1).to(dtype)
    y = net(torch.randn(n, 6, dtype=dtype))
    y.float().sum().backward()
    assert y.dtype == dtype
    assert torch.isfinite(y).all()


def test_autocast_and_channels_last():
    method = snn()
    options = {"name": "cnn4", "widths": [4, 6], "hidden": 7, "dropout": [0.1, 0.1, 0.1]}
    net = MODELS.build(options, Kit(method), {"inputs": (2, 8, 8), "outputs": 5})
    method.init(net)
    x = torch.randn(3, 2, 8, 8)
    expected = net.eval()(x)
    last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(net(x).float(), expected, rtol=0.1, atol=0.05)


def test_members_can_be_stacked():
    """torch.func.vmap, alpha dropout included: each member drops its own."""
    nets = [network(2, 5, dropout=0.5) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(nets)
    x = torch.randn(4, 5)

    def call(parameters, buffers, net=nets[0]):
        return torch.func.functional_call(net, (parameters, buffers), (x,))

    dropped = torch.func.vmap(call, randomness="different")(parameters, buffers)
    assert dropped.shape == (3, 4, 5)
    for net in nets:
        net.eval()
    torch.testing.assert_close(torch.func.vmap(call)(parameters, buffers), torch.stack([net(x) for net in nets]))


def test_compiled_without_graph_breaks():
    net = network(2, 5, dropout=0.5).eval()
    x = torch.randn(4, 5)
    torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))
    net.train()
    assert torch.compile(net, backend="eager", fullgraph=True)(x).shape == (4, 5)


@pytest.mark.parametrize("model", ["mlp", "cnn4"])
def test_a_run(small, model):
    widths = {"mlp": [8], "cnn4": [2, 2]}[model]
    assert execute(small(model=model, norm="snn", norm__dropout=0.05, model__widths=widths)).status == "finished"
