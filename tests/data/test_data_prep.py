"""Preparation of images against closed forms in float64: contrast, whitening, local contrast; what is kept on disk."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from normtables.data import DATASETS, derived, load, prep
from normtables.data.prep import PREPS, prepared


@pytest.fixture
def parts():
    """Bytes of 60 training, 5 validation and 7 test images [3, 6, 6] with much in common."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(8, 3, 6, 6))
    images = 128 + 30 * np.einsum("nk,kchw->nchw", rng.normal(size=(72, 8)), base) + rng.normal(0, 9, (72, 3, 6, 6))
    return np.split(images.clip(0, 255).astype(np.uint8), [60, 65])


def made(parts, name):
    """The three prepared parts in float64."""
    return np.split(prepared(parts, "unit", name).astype(float), [60, 65])


def by_norm(images):
    """Global contrast normalisation with the constants for CIFAR-10, as it stands in pylearn2."""
    rows = images.reshape(len(images), -1).astype(float)
    rows = rows - rows.mean(1, keepdims=True)
    rows *= 55 / np.sqrt(3072 / rows.shape[1]) / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.reshape(images.shape)


def test_none_is_grey_levels_from_0_to_1(parts):
    for found, part in zip(made(parts, "none"), parts):
        assert np.array_equal(found.astype(np.float32), part.astype(np.float32) / np.float32(255))


def test_global_is_one_mean_and_one_deviation_of_the_training_images(parts):
    for found, part in zip(made(parts, "global"), parts):
        assert np.allclose(found, (part - parts[0].mean()) / parts[0].std(), atol=1e-5)


def test_mean_is_taken_off_each_pixel(parts):
    for found, part in zip(made(parts, "mean"), parts):
        assert np.allclose(found, (part - parts[0].mean(0)) / 255, atol=1e-6)


def test_contrast_by_norm(parts):
    for found, part in zip(made(parts, "gcn"), parts):
        assert np.allclose(found, by_norm(part), atol=1e-5)


def test_the_norm_is_55_for_cifar(root, declare, cifar_npy):
    declare("cifar10", "cifar10")
    found = load({"name": "cifar10", "valid": 20, "prep": "gcn"}, root, 0)
    assert torch.allclose(found.test.inputs.flatten(1).norm(dim=1), torch.tensor(55.0))


def test_an_image_of_one_colour_becomes_zero():
    plain = np.full((2, 3, 6, 6), 77, np.uint8)
    for name in ("gcn", "gcn_lcn"):
        assert np.abs(prepared([plain], "unit", name)).max() < 1e-4


def test_whitening_is_the_inverse_root_of_the_covariance(parts):
    contrast = [by_norm(part).reshape(len(part), -1) for part in parts]
    mean, covariance = contrast[0].mean(0), np.cov(contrast[0].T, bias=True) + 0.1 * np.eye(108)
    left, values, right = np.linalg.svd(covariance)
    root = left @ np.diag(values**-0.5) @ right
    for found, rows in zip(made(parts, "gcn_zca"), contrast):
        assert np.allclose(found.reshape(rows.shape), (rows - mean) @ root, atol=1e-4)


def test_whitening_without_the_added_bias_is_scikit_learns(parts, monkeypatch):
    """Rotated back, the whitened images are PCA's components; the bias is what keeps the small ones small."""
    from sklearn.decomposition import PCA

    monkeypatch.setattr(prep, "ZCA_BIAS", 0.0)
    small = [part[:, :1, :3, :3] for part in parts]
    contrast = [part.reshape(len(part), -1) / 255.0 for part in small]
    pca = PCA(whiten=True).fit(contrast[0])
    monkeypatch.setitem(PREPS, "gcn_zca", (prep.whiten,))
    found = prepared(small, "unit", "gcn_zca").reshape(72, 9)
    expected = np.concatenate([pca.transform(rows) for rows in contrast]) @ pca.components_ * np.sqrt(60 / 59)
    assert np.allclose(found, expected, atol=1e-3)


def test_contrast_by_deviation_has_its_bias_in_grey_levels(parts):
    """The local normalisation that follows hides the scale, so this step is looked at by itself."""
    found = parts[0].astype(np.float32) / 255
    prep.normalise_by_deviation([found])
    rows = parts[0].reshape(60, -1).astype(float)
    expected = (rows - rows.mean(1, keepdims=True)) / np.sqrt(10 + rows.var(1, ddof=1, keepdims=True))
    assert np.allclose(found.reshape(60, -1), expected, atol=1e-5)


def test_local_contrast_is_pylearn2s(parts):
    """In grey levels, with explicit 7 x 7 windows: the same as in units of 0 to 1 with the bias scaled."""
    offsets = torch.arange(7.0, dtype=torch.float64) - 3
    window = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / 8)
    window = (window / window.sum())[None, None]
    for found, part in zip(made(parts, "gcn_lcn"), parts):
        rows = torch.from_numpy(part.reshape(len(part), -1)).double()
        rows = (rows - rows.mean(1, keepdim=True)) / (10 + rows.var(1, keepdim=True)).sqrt()
        images = rows.view(-1, 1, 6, 6)
        centred = images - functional.conv2d(images, window, padding=3)
        size = functional.conv2d(images**2, window, padding=3).sqrt()
        divisor = torch.maximum(size, size.mean((2, 3), keepdim=True)).clamp(min=1e-4)
        assert np.allclose(found, (centred / divisor).view(part.shape).numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ["global", "mean", "gcn_zca"])
def test_only_training_images_are_fitted(parts, name):
    train, valid, test = made(parts, name)
    others = made([parts[0], parts[1], 255 - parts[2]], name)
    assert np.array_equal(others[0], train)
    assert np.array_equal(others[1], valid)
    assert not np.allclose(others[2], test)
    moved = made([np.roll(parts[0], 1, 3) // 2, parts[1], parts[2]], name)
    assert not np.allclose(moved[1], valid, atol=1e-3)


@pytest.mark.parametrize("name", PREPS)
def test_chunks_leave_no_trace(parts, name, monkeypatch):
    whole = made(parts, name)
    monkeypatch.setattr(prep, "CHUNK", 7)
    for one, other in zip(whole, made(parts, name)):
        assert np.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", PREPS)
@pytest.mark.parametrize("dataset", ["digits", "digit_fonts"])
def test_every_set_takes_every_preparation(dataset, name, tmp_path):
    found = load({"name": dataset, "prep": name}, tmp_path, 0)
    for split in (found.train, found.valid, found.test):
        assert split.inputs.dtype == torch.float32
        assert torch.isfinite(split.inputs).all()
    assert not (tmp_path / ".cache").exists(), "embedded data is made anew in no time"


SETTINGS = {"name": "cifar10", "valid": 20, "prep": "gcn_zca"}


@pytest.fixture
def cifar(root, declare, cifar_npy):
    declare("cifar10", "cifar10")
    return root


def build(root, **other):
    return DATASETS.build(SETTINGS | other, root, 0)


def kept(root):
    return sorted((root / ".cache").glob("prep-*.npy"))


@pytest.fixture
def small_whitening(monkeypatch):
    """Whitening of every 64th value: the covariance of 3,072 takes seconds."""

    def step(parts):
        calls.append(len(parts[0]))
        views = [part.reshape(len(part), -1)[:, ::64] for part in parts]
        prep.whiten(views)

    calls = []
    monkeypatch.setitem(PREPS, "gcn_zca", (prep.normalise_by_norm, step))
    return calls


def test_whitened_images_are_kept_and_used(cifar, small_whitening):
    first = build(cifar)
    again = build(cifar)
    assert len(kept(cifar)) == len(small_whitening) == 1
    for name in ("train", "valid", "test"):
        assert torch.equal(getattr(again, name).inputs, getattr(first, name).inputs)
        assert torch.equal(getattr(again, name).targets, getattr(first, name).targets)


@pytest.mark.parametrize("other", [{"valid": 10}, {"train": 20}])
def test_other_splits_are_kept_apart(cifar, small_whitening, other):
    build(cifar)
    found = build(cifar, **other)
    assert len(kept(cifar)) == len(small_whitening) == 2
    assert len(found.train.targets) == small_whitening[1]


def test_a_subset_of_another_seed_is_kept_apart(cifar, small_whitening):
    one, other = (DATASETS.build(SETTINGS | {"train": 20}, cifar, seed) for seed in (0, 1))
    assert not torch.equal(one.train.inputs, other.train.inputs)
    assert len(kept(cifar)) == 2


def test_a_new_version_of_the_steps_is_kept_apart(cifar, small_whitening, monkeypatch):
    build(cifar)
    monkeypatch.setattr(prep, "VERSION", prep.VERSION + 1)
    build(cifar)
    assert len(small_whitening) == 2


def test_a_broken_file_is_made_again(cifar, small_whitening):
    first = build(cifar)
    (path,) = kept(cifar)
    content = path.read_bytes()[:5000]
    path.unlink()  # not in place: the first data set still reads the whole file
    path.write_bytes(content)
    assert torch.equal(build(cifar).test.inputs, first.test.inputs)
    assert len(small_whitening) == 2


def test_nothing_written_to_a_data_set_reaches_the_file(cifar, small_whitening):
    build(cifar).train.inputs.zero_()
    assert build(cifar).train.inputs.abs().sum() > 0


def test_without_room_it_is_made_every_time(cifar, small_whitening, monkeypatch):
    monkeypatch.setattr(derived, "folders", lambda root: [])
    assert torch.equal(build(cifar).test.inputs, build(cifar).test.inputs)
    assert len(small_whitening) == 2
