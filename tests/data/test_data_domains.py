"""Pairs of domains: which examples are where, one scale for both, corruptions, features of Office-Caltech10."""

import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from normtables.data import Domains, corruptions, files, load
from normtables.data.corruptions import AMOUNTS, corrupted
from normtables.data.images import handwritten
from normtables.data.office_caltech10 import COMMIT, COUNTS
from normtables.errors import UserError


def embedded(seed=0, **options):
    return load({"name": "embedded_domains", **options}, "nowhere", seed)


def images(split):
    return [image.numpy().tobytes() for image in split.inputs]


def test_two_whole_domains():
    found = embedded()
    assert isinstance(found, Domains)
    assert found.classes == 10
    sizes = [len(getattr(found, name).targets) for name in ("train", "valid", "target", "test")]
    assert sizes == [1527, 270, 1500, 300]
    assert found.train.inputs.shape[1:] == found.target.inputs.shape[1:] == (1, 16, 16)
    handwriting = {image.tobytes() for image in handwritten(16)[0]}
    assert {*images(found.train), *images(found.valid)} == handwriting
    assert not handwriting & {*images(found.target), *images(found.test)}
    assert len({*images(found.target), *images(found.test)}) == 1800
    turned = embedded(source="fonts", target="digits")
    assert {*images(turned.target), *images(turned.test)} == handwriting


def test_splits_are_stratified_and_drawn_by_the_seed():
    first, again, other = (embedded(seed) for seed in (1, 1, 2))
    assert images(first.valid) == images(again.valid)
    assert images(first.valid) != images(other.valid)
    assert images(first.test) != images(other.test)
    expected = np.bincount(load_digits().target) * 270 / 1797
    assert np.abs(first.valid.targets.bincount().numpy() - expected).max() < 1
    assert first.test.targets.bincount().tolist() == [30] * 10


def test_a_domain_and_its_corruption_share_no_image():
    found = embedded(target="digits", target_corruption="inversion")
    clean = {*images(found.train), *images(found.valid)}
    back = {(1 - image).numpy().tobytes() for split in (found.target, found.test) for image in split.inputs}
    assert len(clean) == 899
    assert len(back) == 898
    assert not clean & back
    everything = torch.cat([found.train.inputs, found.valid.inputs, 1 - found.target.inputs, 1 - found.test.inputs])
    assert sorted(map(float, everything.sum((1, 2, 3)))) == pytest.approx(
        sorted(handwritten(16)[0].sum((1, 2, 3)).tolist()), rel=1e-5
    )


def test_transductive_and_without_validation():
    found = embedded(test=0, valid=0.0)
    assert found.target is found.test
    assert len(found.test.targets) == 1800
    assert found.train is found.valid
    assert len(found.train.targets) == 1797


def test_one_scale_fitted_on_the_sources_training_images():
    plain, scaled = embedded(), embedded(scale="standard")
    mean, deviation = plain.train.inputs.double().mean(), plain.train.inputs.double().std(correction=0)
    for name in ("train", "valid", "target", "test"):
        expected = (getattr(plain, name).inputs - mean) / deviation
        assert torch.allclose(getattr(scaled, name).inputs, expected.float(), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "digits"}, "both digits: choose a dataset.target_corruption"),
        ({"severity": 4}, "dataset.severity=4: target_corruption=none has no severity, leave it at 3"),
        ({"target_corruption": "inversion", "severity": 1}, "target_corruption=inversion has no severity"),
        ({"target_corruption": "noise", "severity": 6}, "dataset.severity=6: a whole number from 1 to 5"),
        ({"target_corruption": "fog"}, "target_corruption='fog' should be one of none, contrast, blur"),
        ({"size": 28}, "dataset.size=28: choose one of 8, 16, 32"),
        ({"valid": 1.0}, "dataset.valid=1.0: the share of the source"),
        ({"valid": -0.1}, "dataset.valid=-0.1: the share of the source"),
        ({"test": 1800}, "dataset.test=1800 should lie between 1 and 1799"),
    ],
)
def test_impossible_pairs_are_refused(options, says):
    with pytest.raises(UserError) as error:
        embedded(**options)
    assert says in str(error.value)


def test_a_small_share_still_holds_an_example():
    assert len(embedded(valid=1e-9).valid.targets) == 1
    assert len(embedded(valid=1 - 1e-9).train.targets) == 1


# corruptions


def change(x, kind, severity=3, seed=0):
    return corrupted(x, kind, severity, np.random.RandomState(seed))


@pytest.mark.parametrize("kind", corruptions.CHANGES)
def test_a_corruption_keeps_shape_type_and_range(kind):
    x = handwritten(16)[0][:50]
    before = x.copy()
    for severity in (3,) if kind == "inversion" else range(1, 6):
        found = change(x, kind, severity)
        assert found.shape == x.shape
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1
        assert np.abs(found - x).mean() > 0.01
    assert np.array_equal(x, before)


def test_corruptions_do_what_they_say():
    x = handwritten(32)[0][:40].astype(np.float64).astype(np.float32)
    mean = x.mean((1, 2, 3), keepdims=True)
    assert np.allclose(change(x, "contrast", 2), 0.3 * x + 0.7 * mean, atol=1e-6)
    assert np.array_equal(change(x, "inversion"), 1 - x)
    flat = np.full((20, 1, 32, 32), 0.5, np.float32)
    assert change(flat, "noise", 1).std() == pytest.approx(0.08, rel=0.02)
    assert np.array_equal(change(flat, "noise"), change(flat, "noise"))
    assert not np.array_equal(change(flat, "noise"), change(flat, "noise", seed=1))
    assert np.allclose(change(flat, "blur", 5), flat, atol=1e-6), "outside the image its edge goes on"


def test_blur_is_a_gaussian_of_its_amount():
    point = np.zeros((1, 1, 32, 32), np.float32)
    point[..., 16, 16] = 1
    found = change(point, "blur", 3)[0, 0].astype(float)
    places = np.arange(32) - 16
    assert found.sum() == pytest.approx(1, abs=1e-4)
    for axis in (0, 1):
        assert np.sqrt((found.sum(axis) * places**2).sum()) == pytest.approx(0.08 * 32, rel=0.01)
    assert all(list(amounts) == sorted(amounts, reverse=kind == "contrast") for kind, amounts in AMOUNTS.items())


# Office-Caltech10


@pytest.fixture
def office(root, monkeypatch):
    """Files of the true format in every layout: uint8 counts of 800 words, classes 1..10 in a column."""
    rng = np.random.default_rng(0)
    written = {}
    (root / "office_caltech10" / "surf").mkdir(parents=True)
    for domain, count in COUNTS.items():
        counts = rng.integers(0, 30, (count, 800), np.uint8)
        counts[:, 7] = 0  # a word that no image has
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        name = "caltech10" if domain == "caltech" else domain
        savemat(root / "office_caltech10" / "surf" / f"{name}.mat", {"fts": counts, "labels": labels})
        written[domain] = counts, labels
    source = files.SOURCES["office_caltech10"]
    group = type(source.layouts[1].parts["surf"][0])
    loose = [
        files.Layout(layout.folder, parts={p: tuple(group(g.pattern, 4) for g in gs) for p, gs in layout.parts.items()})
        for layout in source.layouts
    ]
    monkeypatch.setitem(files.SOURCES, "office_caltech10", files.Source(tuple(loose), 1, "none", by="features"))
    return written


def features(root, **options):
    return load({"name": "office_caltech10", **options}, root, 0)


def prepared(counts):
    shares = counts / counts.sum(1, keepdims=True)
    deviation = shares.std(0)
    deviation[deviation == 0] = 1
    return (shares - shares.mean(0)) / deviation


def test_features_are_prepared_domain_by_domain(root, office):
    found = features(root, source="caltech", target="dslr")
    assert found.classes == 10
    assert found.target is found.test
    for split, domain in ((found.train, "caltech"), (found.valid, "caltech"), (found.test, "dslr")):
        counts, labels = office[domain]
        assert np.allclose(split.inputs.numpy(), prepared(counts), atol=1e-5)
        assert split.targets.tolist() == (labels.ravel() - 1).tolist()
    part = features(root, source="caltech", target="dslr", valid=0.1)
    assert (len(part.train.targets), len(part.valid.targets)) == (1011, 112)
    assert part.valid.targets.bincount().min() >= 11


def test_every_layout_of_the_features_is_found(root, office):
    expected = features(root, target="caltech").test.inputs
    flat, clone = root / "flat", root / "clone"
    (flat / "office_caltech10").mkdir(parents=True)
    for path in (root / "office_caltech10" / "surf").iterdir():
        name = "Caltech10" if path.stem == "caltech10" else path.stem
        (flat / "office_caltech10" / f"{name}_SURF_L10.mat").write_bytes(path.read_bytes())
    (clone / f"OfficeCaltechDomainAdaptation-{COMMIT}").mkdir(parents=True)
    (root / "office_caltech10").rename(clone / f"OfficeCaltechDomainAdaptation-{COMMIT}" / "features")
    for other in (flat, clone):
        assert torch.equal(features(other, target="caltech").test.inputs, expected)


def test_googlenet_features_are_not_counts(root, office):
    with pytest.raises(UserError, match=r"is not there: looked in .*; run `normtables data fetch office_caltech10`"):
        features(root, features="googlenet")
    (root / "office_caltech10" / "GoogleNet1024").mkdir()
    rng = np.random.default_rng(1)
    for domain, (_, labels) in office.items():
        values = rng.normal(2, 3, (len(labels), 1024))
        name = "caltech10" if domain == "caltech" else domain
        savemat(root / "office_caltech10" / "GoogleNet1024" / f"{name}.mat", {"fts": values, "labels": labels})
    found = features(root, features="googlenet")
    assert found.train.inputs.shape == (958, 1024)
    assert found.test.inputs.mean(0).abs().max() < 1e-5
    assert (found.test.inputs.std(0, correction=0) - 1).abs().max() < 1e-4
    assert np.allclose(found.test.inputs, (values - values.mean(0)) / values.std(0), atol=1e-4)


@pytest.mark.parametrize("damage", ["rows", "labels", "name", "bytes"])
def test_a_file_that_is_not_whole_is_named(root, office, damage):
    path = root / "office_caltech10" / "surf" / "dslr.mat"
    counts, labels = office["dslr"]
    if damage == "bytes":
        path.write_bytes(b"no MATLAB file")
    else:
        counts = counts[:-1] if damage == "rows" else counts
        labels = np.minimum(labels, 9) if damage == "labels" else labels[: len(counts)]
        savemat(path, {"features" if damage == "name" else "fts": counts, "labels": labels})
    with pytest.raises(UserError, match=r"dslr\.mat is damaged"):
        features(root, target="dslr")


def test_one_domain_is_no_pair(root, office):
    with pytest.raises(UserError, match=r"dataset\.source=amazon and dataset\.target=amazon: choose two different"):
        features(root, target="amazon")


@pytest.mark.parametrize(
    ("source", "target", "accuracy"),
    [
        ("caltech", "amazon", 23.7),
        ("amazon", "webcam", 29.8),
        ("amazon", "dslr", 25.5),
        ("webcam", "dslr", 59.2),
        ("dslr", "webcam", 63.4),
    ],
)
def test_nearest_neighbours_on_surf_are_the_published_ones(shared, root, source, target, accuracy):
    (root / "office_caltech10").symlink_to(shared / "data" / "office_caltech10")
    found = features(root, source=source, target=target)
    model = KNeighborsClassifier(1).fit(found.train.inputs, found.train.targets)
    assert 100 * model.score(found.test.inputs, found.test.targets) == pytest.approx(accuracy, abs=0.1)
