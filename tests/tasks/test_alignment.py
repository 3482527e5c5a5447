"""Shallow adaptation: published accuracies on Office-Caltech10, integrals by quadrature, closed forms."""

import numpy as np
import pytest
import torch
from scipy.io import loadmat
from scipy.linalg import sqrtm

from normtables.errors import UserError
from normtables.tasks.alignment import ALIGNMENTS, Aligned, basis, power, predictions, scale_of

FILES = {"A": "amazon", "C": "caltech10", "D": "dslr", "W": "webcam"}
# 1-nearest neighbour without alignment and with GFK, d = 20: the two rows of the source's table
KNOWN = {"C>A": (23.7, 41.0), "A>W": (29.8, 40.0), "A>D": (25.5, 36.3), "W>D": (59.2, 87.9), "D>W": (63.4, 84.4)}


@pytest.fixture(scope="module")
def surf(shared):
    """Domain to counts divided by their sums, [N, 800], and classes 0..9."""
    found = {}
    for letter, name in FILES.items():
        file = loadmat(shared / "data" / "office_caltech10" / "surf" / f"{name}.mat")
        counts = torch.from_numpy(file["fts"].astype(float))
        labels = torch.from_numpy(file["labels"].ravel().astype(np.int64)) - 1
        found[letter] = counts / counts.sum(1, keepdim=True), labels
    return found


def accuracy(surf, pair, align, classifier):
    (source, targets), (others, labels) = (surf[letter] for letter in pair.split(">"))
    space = Aligned(align, source, others, 20)
    said = predictions(classifier, space.source(source), targets, space.target(others))
    return 100 * (said == labels).double().mean().item()


@pytest.mark.parametrize("pair", KNOWN)
def test_published_accuracies(surf, pair):
    found = [accuracy(surf, pair, align, "nearest") for align in ("features", "gfk")]
    assert found == pytest.approx(KNOWN[pair], abs=0.05)


@pytest.mark.parametrize("align", ["sa", "coral"])
def test_the_others_help_where_the_source_is_small(surf, align):
    """No numbers of this protocol are known for them."""
    assert accuracy(surf, "D>W", align, "nearest") > accuracy(surf, "D>W", "features", "nearest") + 5


def domains(n=40, m=50, d=6):
    torch.manual_seed(3)
    mix = torch.randn(d, d, dtype=torch.float64)
    source = torch.randn(n, d, dtype=torch.float64) @ mix
    return source, torch.randn(m, d, dtype=torch.float64) @ (mix + 0.5 * torch.randn(d, d, dtype=torch.float64)) + 2


def standardised(x):
    return (x.numpy() - x.numpy().mean(0)) / x.numpy().std(0)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_gfk_is_the_integral_of_the_flow(dimension):
    """Gong et al., equation 4, by the trapezoid rule over 2,000 subspaces; for 5 of 6 dimensions subspaces meet."""
    source, target = domains()
    x, y = (torch.from_numpy(standardised(part)) for part in (source, target))
    p, q = (basis(part, dimension).numpy() for part in (x, y))
    u, cosines, vt = np.linalg.svd(p.T @ q)
    theta = np.arccos(cosines.clip(-1, 1))
    rest = q @ vt.T - p @ u * cosines
    rest = rest / np.linalg.norm(rest, axis=0)
    times, kernel = np.linspace(0, 1, 2001), np.zeros((6, 6))
    for t, share in zip(times, np.r_[0.5, np.ones(1999), 0.5] / 2000):
        flow = p @ u * np.cos(t * theta) + rest * np.sin(t * theta)
        kernel += share * flow @ flow.T
    w, same = ALIGNMENTS["gfk"](x, y, dimension)
    assert w is same
    np.testing.assert_allclose((w @ w.T).numpy(), kernel, atol=1e-6)


def test_gfk_between_one_subspace_and_itself_is_the_projection():
    x, _ = domains()
    x = torch.from_numpy(standardised(x))
    w, _ = ALIGNMENTS["gfk"](x, x.flip(0), 3)
    p = basis(x, 3)
    torch.testing.assert_close(w @ w.T, p @ p.T)
    assert torch.isfinite(w).all()


def test_sa_projects_the_source_onto_the_targets_axes():
    source, target = domains()
    x, y = (standardised(part) for part in (source, target))
    p, q = (np.linalg.svd(part)[2][:2].T for part in (x, y))
    space = Aligned("sa", source, target, 2)
    expected = x @ p @ p.T @ q, y @ q
    for found, hand in zip((space.source(source), space.target(target)), expected):
        np.testing.assert_allclose(abs(found.numpy()), abs(hand), atol=1e-9)  # axes have no sign
    products = space.source(source) @ space.target(target).T
    np.testing.assert_allclose(products.numpy(), expected[0] @ expected[1].T, atol=1e-9)


def test_coral_gives_the_source_the_targets_covariance():
    """Exactly where both have full rank and the added identity is small beside them; by scipy's roots as printed."""
    source, target = domains()
    x, y = (torch.from_numpy(standardised(part)) for part in (source, target))
    a, same = ALIGNMENTS["coral"](x, y, 0)
    cs, ct = (np.cov(part.numpy().T) + np.eye(6) for part in (x, y))
    np.testing.assert_allclose(a.numpy(), np.linalg.inv(sqrtm(cs)) @ sqrtm(ct), atol=1e-9)
    torch.testing.assert_close(same, torch.eye(6).double())
    a, _ = ALIGNMENTS["coral"](1e4 * x, 1e4 * y, 0)
    torch.testing.assert_close((x @ a).T.cov(), y.T.cov(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_the_scale_of_a_feature_in_either_domain_does_not_matter(align):
    source, target = domains()
    one, other = Aligned(align, source, target, 3), Aligned(align, 7 * source + 1, target / 9, 3)
    a, b = (
        space.source(x) @ space.target(y).T
        for space, x, y in ((one, source, target), (other, 7 * source + 1, target / 9))
    )
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_a_feature_that_never_changes_is_zero_and_not_infinite():
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    torch.testing.assert_close(scale_of(x).of(x), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))


def test_a_power_of_a_matrix():
    a = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    root = power(a, 0.5)
    torch.testing.assert_close(root @ root, a)
    torch.testing.assert_close(power(a, -0.5) @ root, torch.eye(2).double())


@pytest.mark.parametrize("classifier", ["nearest", "svm"])
def test_classifiers_on_what_is_easy(classifier):
    targets = torch.arange(60) % 3
    train = torch.nn.functional.one_hot(targets, 3).double() * 3 + 0.3 * torch.randn(60, 3)
    said = predictions(classifier, train, targets, 3 * torch.eye(3).double()[[2, 0, 1, 1]])
    assert said.tolist() == [2, 0, 1, 1]
    assert said.dtype == torch.int64


def test_nearest_is_nearest_of_all_in_any_number_of_pieces(monkeypatch):
    train, test = torch.randn(30, 4).double(), torch.randn(11, 4).double()
    targets = torch.randint(5, (30,))
    expected = [targets[((train - x) ** 2).sum(1).argmin()].item() for x in test]
    assert predictions("nearest", train, targets, test).tolist() == expected
    monkeypatch.setattr("normtables.tasks.alignment.PAIRS", 70)
    assert predictions("nearest", train, targets, test).tolist() == expected


@pytest.mark.parametrize("align", ["sa", "gfk"])
@pytest.mark.parametrize("dimension", [0, 7, 40])
def test_a_dimension_that_features_do_not_have(align, dimension):
    with pytest.raises(UserError, match="dimension") as error:
        Aligned(align, *domains(), dimension)
    assert "\n" not in str(error.value)
