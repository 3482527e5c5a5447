"""Normalization propagation: constants against scipy's integrals, moments against the paper, layers against NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special
from torch import nn
from torch.nn import functional

from normtables.errors import UserError
from normtables.models import MODELS, initialise
from normtables.norms import METHODS, Kit
from normtables.norms.normprop import moments

C1, C2 = math.sqrt((1 - 1 / math.pi) / 2), math.sqrt(1 / (2 * math.pi))
SIZES = {"inputs": (2, 8, 8), "outputs": 5}
CNN = {"name": "cnn4", "widths": [4, 6], "hidden": 7, "dropout": [0.0, 0.0, 0.0]}
ACTS = {
    nn.Tanh: np.tanh,
    nn.Sigmoid: lambda z: 1 / (1 + np.exp(-z)),
    nn.ELU: lambda z: z if z > 0 else math.expm1(z),
    nn.GELU: lambda z: z * special.ndtr(z),
    nn.ReLU6: lambda z: min(max(z, 0), 6),
}


def method(**options):
    return METHODS.build({"name": "normprop", **options})


# constants


def density(z):
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def test_relus_constants_are_the_papers():
    assert moments(nn.ReLU()) == pytest.approx((C2, C1), abs=1e-14)
    act = Kit(method()).norm_act(3)[1]
    assert (act.mean, act.deviation) == pytest.approx((0.398942, 0.583819), abs=1e-6)


@pytest.mark.parametrize("act", ACTS)
def test_constants_of_other_nonlinearities_are_their_integrals(act):
    def expected(power):
        def integrand(z):
            return ACTS[act](z) ** power * density(z)

        return integrate.quad(integrand, -12, 12, points=[0, 6], epsabs=1e-13, limit=200)[0]

    mean = expected(1)
    assert moments(act()) == pytest.approx((mean, math.sqrt(expected(2) - mean**2)), abs=1e-10)


def test_of_the_identity_nothing_is_subtracted():
    assert moments(nn.Identity()) == pytest.approx((0, 1), abs=1e-13)


def test_the_models_own_nonlinearity_is_kept():
    act = Kit(method(), activation=nn.Tanh).norm_act(3)[1]
    x = torch.linspace(-3, 3, 7)
    mean, deviation = moments(nn.Tanh())
    torch.testing.assert_close(act(x), (x.tanh() - mean) / deviation)


def test_a_nonlinearity_without_variance_is_refused():
    with pytest.raises(UserError, match="Threshold") as error:
        Kit(method(), activation=lambda: nn.Threshold(20, 1.0)).norm_act(3)
    assert "\n" not in str(error.value)


# the layer


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    seed=st.integers(0, 99),
    layout=st.sampled_from([False, True]),
)
def test_outputs_and_gradients(shape, seed, layout):
    """o = (max(gamma u + beta, 0) - c2) / c1 for u of every shape and memory format."""
    rng = np.random.default_rng(seed)
    layers = Kit(method()).norm_act(shape[1], len(shape) - 2).double()
    u, push = rng.normal(size=shape), rng.normal(size=shape)
    gamma, beta = rng.normal(1, 0.3, shape[1]), rng.normal(0, 0.3, shape[1])
    along = [-1] + [1] * (len(shape) - 2)
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor(gamma))
        layers[0].bias.copy_(torch.tensor(beta))
    inputs = torch.tensor(u)
    if layout and len(shape) == 4:
        inputs = inputs.to(memory_format=torch.channels_last)
    inputs.requires_grad_()
    outputs = layers(inputs)
    grads = torch.autograd.grad((outputs * torch.tensor(push)).sum(), [inputs, *layers.parameters()])
    inner = gamma.reshape(along) * u + beta.reshape(along)
    back = push / C1 * (inner > 0)
    axes = (0, *range(2, len(shape)))
    np.testing.assert_allclose(outputs.detach(), (np.maximum(inner, 0) - C2) / C1, atol=1e-12)
    np.testing.assert_allclose(grads[0], back * gamma.reshape(along), atol=1e-12)
    np.testing.assert_allclose(grads[1], (back * u).sum(axes), atol=1e-10)
    np.testing.assert_allclose(grads[2], back.sum(axes), atol=1e-10)


def test_gradcheck_of_a_whole_block():
    kit = Kit(method(), activation=nn.Softplus)
    block = nn.Sequential(kit.conv(2, 3, 2), kit.norm_act(3, 2), nn.Flatten(), kit.head(12, 2)).double()
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    names, values = zip(*((k, p.detach().requires_grad_()) for k, p in block.named_parameters()))
    assert torch.autograd.gradcheck(
        lambda *given: torch.func.functional_call(block, dict(zip(names, given)), x), values
    )


def test_the_beginning_is_the_papers():
    kit = Kit(method())
    affine = kit.norm_act(4, 2)[0]
    torch.testing.assert_close(affine.weight, torch.full([4], 1 / 1.21))
    assert (affine.bias == 0).all()
    for layer in (kit.linear(6, 4), kit.conv(3, 4, 3), kit.conv(3, 4, 3, dims=1)):
        torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), torch.ones(4))
        assert layer.bias is None


def signal(gamma, depth=1):
    """What `depth` layers of 500 units make of a standard Gaussian; the rows of a draw are nearly orthogonal."""
    torch.manual_seed(0)
    kit, x = Kit(method(gamma=gamma)), torch.randn(1000, 500)
    with torch.no_grad():
        for _ in range(depth):
            linear = kit.linear(500, 500)
            nn.init.normal_(linear.parametrizations.weight.original)
            x = kit.norm_act(500)(linear(x))
    return x


def test_a_gaussian_stays_standardised_at_gamma_1():
    x = signal(1.0, depth=3)
    # Rows of unit length: only the sampling of 1000 examples and 500 units moves the moments.
    assert abs(x.mean().item()) < 0.02
    assert x.std().item() == pytest.approx(1, abs=0.02)
    assert x.mean(0).abs().max() < 0.3
    assert (x.std(0) - 1).abs().max() < 0.3


def test_a_gaussian_gets_the_known_moments_at_the_papers_gamma():
    x = signal(1 / 1.21)
    assert x.mean().item() == pytest.approx(-0.119, abs=0.01)
    assert x.std().item() == pytest.approx(0.826, abs=0.01)


def test_at_the_papers_gamma_the_jacobian_keeps_lengths():
    """A layer's Jacobian at gamma = 1/1.21 has a mean squared singular value of about 1: what 1.21 is for."""
    torch.manual_seed(0)
    kit = Kit(method())
    layers = nn.Sequential(kit.linear(200, 200), kit.norm_act(200))
    nn.init.normal_(layers[0].parametrizations.weight.original)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda x: layers(x[None])[0]))(torch.randn(20, 200))
    assert jacobians.square().sum(2).mean().item() == pytest.approx(1, abs=0.03)


# head


def test_the_head_has_gains_or_is_plain():
    x = torch.randn(5, 6)
    head = Kit(method(gamma=0.7)).head(6, 4)
    v, g = head.parametrizations.weight.original1, head.parametrizations.weight.original0
    torch.testing.assert_close(head(x), 0.7 * functional.linear(x, v / v.norm(dim=1, keepdim=True)) + head.bias)
    assert g.shape == (4, 1)
    assert g.requires_grad
    plain = Kit(method(head="plain")).head(6, 4)
    assert type(plain) is nn.Linear
    torch.testing.assert_close(plain(x), functional.linear(x, plain.weight, plain.bias))


# inputs


def prepared(batches, model=CNN, clock=None, **options):
    chosen = method(**options)
    net = MODELS.build(model, Kit(chosen), SIZES)
    stream, beyond = iter(batches), []
    net[-1].register_forward_hook(lambda *_: beyond.append(1))
    clock = clock or {"step": 1, "epoch": len(batches)}
    chosen.prepare(net, lambda: net(next(stream)).sum(), clock)
    assert not beyond, "a whole network was computed"
    return net, stream


def data(batches=3):
    scales = torch.tensor([2.0, 30.0]).view(1, 2, 1, 1)
    return [torch.randn(4, 2, 8, 8) * scales + scales for _ in range(batches)]


@pytest.mark.parametrize(("inputs", "axes"), [("all", (0, 1, 2, 3)), ("channel", (0, 2, 3))])
def test_inputs_are_normalised_by_one_pass_over_the_training_data(inputs, axes):
    batches = data()
    net, stream = prepared(batches, inputs=inputs)
    assert next(stream, None) is None, "a whole epoch and no more"
    whole = torch.cat(batches)
    expected = (whole - whole.mean(axes, keepdim=True)) / whole.std(axes, correction=0, keepdim=True)
    torch.testing.assert_close(net[0](whole), expected, rtol=1e-4, atol=1e-5)
    assert net[0].mean.dtype == torch.float32
    assert not net[0]._forward_pre_hooks


def test_flat_inputs_have_a_moment_for_each_feature():
    x = torch.randn(9, 6) * torch.arange(1.0, 7) + 3
    chosen = method(inputs="channel")
    net = MODELS.build({"name": "mlp", "widths": [3]}, Kit(chosen), {"inputs": (6,), "outputs": 2})
    chosen.prepare(net, lambda: net(x).sum(), {"epoch": 1})
    torch.testing.assert_close(net[0](x), (x - x.mean(0)) / x.std(0, correction=0))


def test_a_constant_channel_is_only_centred():
    batches = [torch.cat([torch.randn(4, 1, 8, 8), torch.full([4, 1, 8, 8], 0.1)], 1) for _ in range(2)]
    net, _ = prepared(batches, inputs="channel")
    torch.testing.assert_close(net[0](batches[0])[:, 1], torch.zeros(4, 8, 8), rtol=0, atol=1e-6)


def test_a_task_without_epochs_says_so():
    with pytest.raises(UserError, match=r"norm\.inputs") as error:
        prepared(data(), clock={"step": 1, "frame": 4})
    assert "\n" not in str(error.value)


def test_without_input_normalisation_no_batch_is_taken():
    net, stream = prepared(data(), inputs="none")
    assert isinstance(net[0], nn.Identity)
    assert len(list(stream)) == 3


@pytest.mark.parametrize("inputs", ["all", "channel"])
def test_a_state_dict_carries_everything(inputs):
    net, _ = prepared(data(), inputs=inputs)
    other = MODELS.build(CNN, Kit(method(inputs=inputs)), SIZES)
    other.load_state_dict(net.state_dict())
    x = torch.randn(3, 2, 8, 8)
    assert torch.equal(net.train()(x), other.eval()(x))
    assert {k for k in net.state_dict() if "0." in k[:2]} == {"0.mean", "0.deviation"}


def test_one_example_is_a_batch():
    net = MODELS.build(CNN, Kit(method()), SIZES)
    initialise(net, "glorot_uniform")
    x = torch.randn(4, 2, 8, 8)
    torch.testing.assert_close(net(x), torch.cat([net(one[None]) for one in x]))


# pooling


@pytest.mark.parametrize(("count", "expected"), [(1, (0, 1)), (4, (1.108, 1.150)), (9, (1.861, 1.023))])
def test_moments_of_a_maximum(count, expected):
    """Of k independent outputs at gamma = 1: known values, and a density written with scipy's distribution."""
    act = Kit(method()).norm_act(1)[1]
    assert moments(act, count) == pytest.approx(expected, abs=1e-3)

    def power(p):
        return integrate.quad(
            lambda z: ((max(z, 0) - C2) / C1) ** p * count * special.ndtr(z) ** (count - 1) * density(z),
            *(-12, 12),
            points=[0],
        )[0]

    assert moments(act, count) == pytest.approx((power(1), math.sqrt(power(2) - power(1) ** 2)), abs=1e-7)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.MaxPool2d(2), [50, 40, 12, 12]),
        (nn.MaxPool2d((3, 2)), [50, 40, 12, 12]),
        (nn.MaxPool1d(3), [50, 40, 144]),
        (nn.AvgPool2d(2), [50, 40, 12, 12]),
        (nn.AvgPool1d(3), [50, 40, 144]),
        (nn.AdaptiveAvgPool2d(4), [50, 40, 12, 12]),
        (nn.AdaptiveAvgPool1d(36), [50, 40, 144]),
    ],
    ids=str,
)
def test_pooled_values_keep_mean_0_and_variance_1(layer, shape):
    torch.manual_seed(0)
    kit = Kit(method(gamma=1.0, pool="independent"))
    y = kit.pool(layer)(kit.norm_act(40, len(shape) - 2)(torch.randn(shape)))
    assert y.shape == layer(torch.empty(shape)).shape
    assert y.mean().item() == pytest.approx(0, abs=0.02)
    assert y.std().item() == pytest.approx(1, abs=0.02)


def test_pooling_is_left_alone_by_default():
    layer = nn.MaxPool2d(2)
    assert Kit(method()).pool(layer) is layer


def test_a_pool_or_a_maximum_of_unknown_moments_is_refused():
    chosen = method(pool="independent")
    with pytest.raises(UserError, match="LPPool2d"):
        chosen.pool(nn.LPPool2d(2, 2))
    for activation in (nn.ReLU, nn.Tanh):
        kit = Kit(chosen, activation=activation)
        net = nn.Sequential(kit.conv(2, 3, 3), kit.norm_act(3, 2), kit.pool(nn.MaxPool2d(2)))
        if activation is nn.ReLU:
            chosen.init(net)
        else:
            with pytest.raises(UserError, match=r"Tanh"):
                chosen.init(net)


@pytest.mark.parametrize(
    "options", [{"gamma": 0}, {"gamma": -1.0}, {"head": "none"}, {"inputs": "pixel"}, {"pool": "max"}], ids=str
)
def test_bad_options_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))) as error:
        method(**options)
    assert "\n" not in str(error.value)
