"""Statistics taken anew: by hand on a net of three layers, against torch's update_bn, and what must stay as it was."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit
from normtables.norms.statistics import reestimate

EPSILON = 0.05
METHODS_WITH_STATISTICS = {
    "bn": {},
    "bn with options": {"ghost": 4, "update": False, "use": "running", "flow": False},
    "brn": {},
    "l1bn": {},
    "wn_mean": {},
    "dbn": {"alpha": 0.5},
    "dbn of variances": {"averaged": "variance", "epsilon_in": "variance"},
    "dbn of inverses": {"averaged": "inverse_sigma", "alpha": "1/m"},
}
BUFFERS = {"bn": ("running_mean", "running_var"), "brn": ("running_mean", "running_std")}
BUFFERS |= {"wn_mean": ("running_mean",), "l1bn": ("running_mean", "running_scale"), "dbn": ("mu", "scale")}
SIZES = (5, 9, 2)  # batches of different sizes


def norm(kind, channels=4, dims=0):
    name = kind.split()[0]
    epsilon = {} if name == "wn_mean" else {"epsilon": EPSILON}
    layer = METHODS.build({"name": name, **epsilon, **METHODS_WITH_STATISTICS[kind]}).norm(channels, dims)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 1, 0.3)
    return layer


def three_layers(kind):
    parts = [part for _ in range(3) for part in (nn.Linear(4, 4), norm(kind), nn.ReLU(), nn.Dropout(0.5))]
    return nn.Sequential(*parts, nn.Linear(4, 2)).double()


def data(sizes=SIZES, width=4):
    return [torch.randn(n, width, dtype=torch.float64) * 3 + 1 for n in sizes]


# by hand, in NumPy


def spread(kind, x, mean):
    centred = x - mean
    return math.sqrt(math.pi / 2) * abs(centred).mean(0) if kind == "l1bn" else (centred**2).mean(0)


def kept(kind, spread):
    """What a layer keeps, from the variance or the scaled mean deviation."""
    return {
        "brn": np.sqrt(spread + EPSILON),
        "dbn": np.sqrt(spread),
        "dbn of inverses": 1 / (np.sqrt(spread) + EPSILON),
    }.get(kind, spread)


def root(kind, spread):
    if kind == "wn_mean":
        return 1.0
    if kind in ("l1bn", "dbn", "dbn of inverses"):
        return (spread if kind == "l1bn" else np.sqrt(spread)) + EPSILON
    return np.sqrt(spread + EPSILON)


def by_hand(kind, net, batches, statistics_of):
    """(kept mean, kept scale) of the three norm layers; `statistics_of` gives them and each batch's (mean, spread)."""
    found, xs = [], [x.numpy() for x in batches]
    for linear, layer in zip(net[0::4], net[1::4]):
        weight, bias = (p.detach().numpy() for p in (linear.weight, linear.bias))
        gamma, beta = (p.detach().numpy() for p in (getattr(layer, "weight", torch.ones(4)), layer.bias))
        xs = [x @ weight.T + bias for x in xs]
        keep, used = statistics_of(kind, xs)
        found.append(keep)
        xs = [gamma * (x - mean) / root(kind, s) + beta for x, (mean, s) in zip(xs, used)]
        xs = [np.maximum(x, 0) for x in xs]
    return found


def population(kind, xs):
    x = np.concatenate(xs)
    mean = x.mean(0)
    s = spread(kind, x, mean)
    return (mean, kept(kind, s)), [(mean, s)] * len(xs)


def averages(kind, xs):
    used = [(x.mean(0), spread(kind, x, x.mean(0))) for x in xs]
    unbiased = kind.startswith("bn")
    scales = [kept(kind, s * len(x) / (len(x) - 1) if unbiased else s) for x, (_, s) in zip(xs, used)]
    return (np.mean([mean for mean, _ in used], 0), np.mean(scales, 0)), used


@pytest.mark.parametrize("kind", METHODS_WITH_STATISTICS)
@pytest.mark.parametrize(("how", "statistics_of"), [("exact", population), ("cumulative", averages)])
def test_three_layers_by_hand(kind, how, statistics_of):
    net, batches = three_layers(kind), data()
    reestimate(net, batches, how)
    for layer, expected in zip(net[1::4], by_hand(kind, net, batches, statistics_of)):
        for name, values in zip(BUFFERS[kind.split()[0]], expected):
            np.testing.assert_allclose(getattr(layer, name), values, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", METHODS_WITH_STATISTICS)
@pytest.mark.parametrize("dims", [1, 2])
def test_convolutions_take_space_with_the_examples(kind, dims):
    layer = norm(kind, 3, dims).double()
    x = torch.randn([7, 3, 4, 5][: dims + 2], dtype=torch.float64) * 2 + 1
    reestimate(layer, [x[:2], x[2:]])
    flat = norm(kind, 3).double()
    reestimate(flat, [x.transpose(0, 1).flatten(1).T])
    for name in BUFFERS[kind.split()[0]]:
        torch.testing.assert_close(getattr(layer, name), getattr(flat, name))


def test_cumulative_is_torchs_update_bn():
    kit = Kit(METHODS.build({"name": "bn"}))
    sizes = {"inputs": (2, 8, 8), "outputs": 5}
    ours = MODELS.build({"name": "cnn4", "widths": [4, 6], "hidden": 7, "dropout": [0.0, 0.0, 0.0]}, kit, sizes)
    theirs = copy.deepcopy(ours)
    batches = [(torch.randn(n, 2, 8, 8) + 1, torch.zeros(n)) for n in (6, 3)]
    reestimate(ours, batches, "cumulative")
    update_bn(batches, theirs)
    theirs.load_state_dict({k: v for k, v in theirs.state_dict().items() if "tracked" not in k}, strict=False)
    for (name, value), other in zip(ours.named_buffers(), theirs.buffers()):
        if "tracked" not in name:
            torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5)


def test_exact_is_one_pass_over_one_batch_of_everything():
    """In training mode over all examples at once, torch's layers normalise by exactly these statistics."""
    net, batches = three_layers("bn").requires_grad_(False), data()
    for layer in net:
        layer.train(not isinstance(layer, nn.Dropout))
    expected = net(torch.cat(batches))
    reestimate(net, batches)
    torch.testing.assert_close(net.eval()(torch.cat(batches)), expected)


def test_another_domain_that_is_a_shift_and_a_scale_of_the_first_is_no_other():
    """AdaBN's purpose: the source's outputs on the target, exactly, where the domains differ in first moments."""
    net = three_layers("bn").eval()
    source = data()
    for layer in net[1::4]:
        layer.eps = 1e-12
    reestimate(net, source)
    before = net(torch.cat(source))
    target = [3 * x + 5 for x in source]
    assert (net(torch.cat(target)) - before).abs().max() > 0.1
    reestimate(net, target)
    torch.testing.assert_close(net(torch.cat(target)), before)


class Reversed(nn.Module):
    """Two norm layers that are used in the other order than they are registered in."""

    def __init__(self):
        super().__init__()
        self.second, self.first = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.unused = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def test_layers_are_taken_in_the_order_of_use():
    net, x = Reversed().double(), torch.randn(20, 3, dtype=torch.float64) * 2 + 1
    reestimate(net, [x[:7], x[7:]])
    hidden = torch.relu((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt())
    torch.testing.assert_close(net.second.running_mean, hidden.mean(0))
    torch.testing.assert_close(net.second.running_var, hidden.var(0, correction=0))
    assert (net.unused.running_mean == 0).all()


@pytest.mark.parametrize("how", ["exact", "cumulative"])
@pytest.mark.parametrize("kind", ["bn", "dbn", "l1bn"])
def test_which_part_is_replaced(kind, how):
    """The scale alone is Hendrycks & Gimpel's re-estimation; it is around the new examples' mean."""
    names, batches = BUFFERS[kind], data()
    net = nn.Sequential(norm(kind)).double()
    both = copy.deepcopy(net)
    reestimate(both, batches, how)
    for which, replaced in (("mean", names[:1]), ("scale", names[1:])):
        one = copy.deepcopy(net)
        reestimate(one, batches, how, which)
        for name in names:
            source = both if name in replaced else net
            assert torch.equal(getattr(one[0], name), getattr(source[0], name)), (which, name)


# what stays


@pytest.mark.parametrize("how", ["exact", "cumulative"])
@pytest.mark.parametrize("kind", METHODS_WITH_STATISTICS)
def test_everything_else_stays(kind, how):
    net, batches = three_layers(kind), data()
    net(torch.randn(6, 4, dtype=torch.float64))
    net[3].eval()
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    random = torch.get_rng_state()
    reestimate(net, batches, how)
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random), "dropout drew"
    assert not any(m._forward_pre_hooks for m in net.modules())
    for name, value in net.state_dict().items():
        changed = name.split(".")[-1] in BUFFERS[kind.split()[0]]
        assert torch.equal(value, before[name]) != changed, name
        assert value.dtype == before[name].dtype
        assert not value.requires_grad or name.endswith(("weight", "bias"))


@pytest.mark.parametrize("how", ["exact", "cumulative"])
def test_a_failure_leaves_the_model_usable(how):
    net = three_layers("bn")
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(RuntimeError):
        reestimate(net, [data()[0], torch.randn(5, 7, dtype=torch.float64)], how)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert not any(m._forward_pre_hooks for m in net.modules())
    assert net.training


def test_a_compiled_model_is_taken_through_its_layers():
    net, batches = three_layers("bn"), data()
    other = copy.deepcopy(net)
    net.compile(backend="eager")
    net(batches[0])
    other.load_state_dict(net.state_dict())
    reestimate(net, batches)
    reestimate(other, batches)
    torch.testing.assert_close(net.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_statistics_of_long_streams_are_exact_in_float32():
    """Far from zero, where a sum of squares would lose everything."""
    layer = nn.BatchNorm1d(2)
    x = torch.randn(1000, 2, dtype=torch.float64).mul(0.5).add(1e4).float()
    reestimate(layer, list(x.split(64)))
    np.testing.assert_allclose(layer.running_var, x.double().numpy().var(0), rtol=1e-5)


# mistakes


class Twice(nn.Module):
    """One norm layer used twice in a forward pass."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.norm(x) + 1)


def test_a_layer_used_twice_has_cumulative_statistics_alone():
    x = torch.randn(6, 4)
    with pytest.raises(UserError, match="twice"):
        reestimate(Twice(), [x])
    net = Twice()
    reestimate(net, [x], "cumulative")
    torch.testing.assert_close(net.norm.running_mean, (x.mean(0) + 1) / 2)


@pytest.mark.parametrize("how", ["exact", "cumulative"])
def test_statistics_by_position_are_refused_and_not_left_out(how):
    """Beside layers whose statistics could be taken."""
    lstm = METHODS.build({"name": "bn_recurrent"}).recurrent(4, 4)
    with pytest.raises(UserError, match="evaluation=batch") as error:
        reestimate(nn.ModuleList([three_layers("bn"), lstm]), data(), how)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((lambda: three_layers("bn"), lambda: iter(data())), "list or a loader"),
        ((lambda: three_layers("bn"), list), "no batches"),
        ((lambda: three_layers("bn"), list, "cumulative"), "no batches"),
        ((lambda: nn.Linear(4, 4).double(), data), "no layer with running statistics"),
        ((lambda: nn.BatchNorm1d(4, track_running_stats=False).double(), data), "no layer with running statistics"),
        ((lambda: three_layers("bn"), data, "exat"), "did you mean 'exact'"),
        ((lambda: three_layers("bn"), data, "exact", "variance"), "mean, scale"),
        ((lambda: three_layers("bn"), lambda: data((3, 1)), "cumulative"), "one value per channel"),
    ],
    ids=["iterator", "none", "none cumulative", "plain", "untracked", "how", "which", "one example"],
)
def test_mistakes_are_told_in_one_line(arguments, says):
    model, batches, *words = arguments
    with pytest.raises(UserError, match=says) as error:
        reestimate(model(), batches(), *words)
    assert "\n" not in str(error.value)
