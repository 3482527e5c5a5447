"""The divergence of two domains at the layers of a network, against NumPy and torch's Kullback-Leibler divergence."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from normtables.tasks.shift import VARIANCE, divergence, moments


def test_it_is_the_sum_of_both_divergences_and_the_mean_over_channels():
    one = torch.tensor([0.0, 1.0, -2.0]).double(), torch.tensor([1.0, 4.0, 0.5]).double()
    other = torch.tensor([0.5, 1.0, 3.0]).double(), torch.tensor([2.0, 1.0, 0.5]).double()
    p, q = (Normal(mean, (variance + VARIANCE).sqrt()) for mean, variance in (one, other))
    expected = (kl_divergence(p, q) + kl_divergence(q, p)).mean().item()
    assert divergence(one, other) == pytest.approx(expected, rel=1e-9)
    assert divergence(one, other) == divergence(other, one)
    assert divergence(one, one) == 0


def test_a_dead_channel_is_not_infinitely_far():
    one, other = (torch.zeros(1), torch.zeros(1)), (torch.zeros(1), torch.ones(1))
    assert 1e3 < divergence(one, other) < 1e6


def test_moments_are_those_of_all_examples_together():
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(12)).eval()
    x = torch.randn(11, 2, 2, 2) * 3 + 5
    layers = {"first": net[1], "second": net[4]}
    with torch.no_grad():
        found = moments(net, layers, x.split(4))
        whole = {"first": net[0](x), "second": net[:4](x)}
    for name, rows in whole.items():
        rows = rows.transpose(0, 1).flatten(1).double().numpy()
        np.testing.assert_allclose(found[name][0], rows.mean(1), rtol=1e-6)
        np.testing.assert_allclose(found[name][1], rows.var(1), rtol=1e-6)
    assert not any(part._forward_pre_hooks for part in net.modules())
