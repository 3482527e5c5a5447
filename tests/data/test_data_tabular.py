"""KDD Cup 1999: classes, one-hot columns, scaling, the cache of parsed arrays."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from normtables.data import DATASETS, derived, files, load, tabular

ATTACKS = ["normal.", "smurf.", "ipsweep.", "guess_passwd.", "rootkit."]


def table(rows, labels, seed, services=("http", "smtp")):
    """Rows of the file format with every numeric column random except two constant ones."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.integers(0, 1000, rows) / 4 for name in tabular.COLUMNS[:-1]})
    frame["num_outbound_cmds"], frame["is_host_login"] = 0, 3
    frame["protocol_type"] = rng.choice(["tcp", "udp", "icmp"], rows)
    frame["service"] = rng.choice(services, rows)
    frame["flag"] = "SF"
    frame["label"] = [labels[i % len(labels)] for i in range(rows)]
    return frame


@pytest.fixture
def kdd(root, declare):
    """(training rows, test rows) as written: the test file has a service and attacks that training lacks."""
    frames = table(200, ATTACKS, 0), table(80, [*ATTACKS, "mailbomb.", "httptunnel."], 1, ("http", "icmp_x"))
    frames[1].loc[:, "is_host_login"] = 7
    (root / "kdd99").mkdir()
    for name, frame in zip((tabular.TRAIN, tabular.TEST), frames):
        text = frame.to_csv(header=False, index=False)
        (root / "kdd99" / name).write_bytes(gzip.compress(text.encode()))
    declare("kdd99", "kdd99")
    return frames


def expected(train, frame, counts=()):
    """Features by scikit-learn and pandas."""
    names = [c for c in tabular.COLUMNS[:-1] if c not in ("protocol_type", "service", "flag")]
    numbers = [f[names].apply(lambda c: np.log1p(c) if c.name in counts else c) for f in (train, frame)]
    scaled = StandardScaler().fit(numbers[0]).transform(numbers[1])
    scaled[:, numbers[0].nunique() == 1] = 0
    hot = [pd.get_dummies(f[["protocol_type", "service", "flag"]]) for f in (train, frame)]
    return np.column_stack([scaled, hot[1].reindex(columns=hot[0].columns, fill_value=False)])


@pytest.mark.parametrize("scale", ["zscore", "log"])
def test_features_are_those_of_pandas_and_scikit_learn(root, kdd, scale):
    found = load({"name": "kdd99", "valid": 40, "scale": scale}, root, 0)
    order = np.random.RandomState(0).permutation(200)
    kept, held = np.sort(order[40:]), np.sort(order[:40])
    train = kdd[0].iloc[kept]
    counts = tabular.COUNTS if scale == "log" else ()
    for split, frame in ((found.train, train), (found.valid, kdd[0].iloc[held]), (found.test, kdd[1])):
        assert split.inputs.dtype == torch.float32
        assert np.allclose(split.inputs.numpy(), expected(train, frame, counts), atol=2e-5)
    assert found.train.inputs.shape == (160, 38 + 3 + 2 + 1)
    assert found.classes == 5


def test_a_category_that_training_lacks_has_no_column(root, kdd):
    inputs = load({"name": "kdd99", "valid": 40}, root, 0).test.inputs
    service = inputs[:, 38 + 3 : 38 + 5]
    unseen = torch.tensor((kdd[1]["service"] == "icmp_x").tolist())
    assert unseen.any()
    assert (service[unseen] == 0).all()
    assert (service[~unseen].sum(1) == 1).all()


def test_a_column_constant_in_training_is_zero_everywhere(root, kdd):
    inputs = load({"name": "kdd99", "valid": 40}, root, 0).test.inputs
    assert (inputs[:, tabular.NUMBERS.index("is_host_login")] == 0).all()
    assert (inputs[:, tabular.NUMBERS.index("num_outbound_cmds")] == 0).all()
    assert torch.isfinite(inputs).all()


def test_attacks_fall_into_five_classes(root, kdd):
    found = load({"name": "kdd99", "valid": 40}, root, 0)
    assert found.test.targets[:7].tolist() == [0, 1, 2, 3, 4, 1, 4]
    groups = {name: len(attacks.split()) for name, attacks in tabular.ATTACKS.items()}
    assert groups == {"normal": 1, "dos": 10, "probe": 6, "r2l": 15, "u2r": 8}
    assert len(tabular.LABELS) == 1 + 22 + 17


def test_rows_are_drawn_by_the_seed(root, kdd):
    first, again, other = (load({"name": "kdd99", "valid": 40}, root, seed) for seed in (0, 0, 1))
    assert torch.equal(first.valid.inputs, again.valid.inputs)
    assert not torch.equal(first.valid.targets, other.valid.targets)
    small = load({"name": "kdd99", "valid": 40, "train": 25}, root, 0)
    assert small.train.targets.bincount().tolist() == [5] * 5
    assert torch.equal(small.valid.targets, first.valid.targets)


def build(root):
    return DATASETS.build({"name": "kdd99", "valid": 40}, root, 0)


def test_parsed_arrays_are_kept_and_used(root, kdd, monkeypatch):
    first = build(root)
    (kept,) = (root / ".cache").iterdir()
    assert not kept.name.startswith(".")
    monkeypatch.setattr(tabular, "read", lambda path: pytest.fail("read again"))
    assert torch.equal(build(root).test.inputs, first.test.inputs)


def test_a_broken_cache_is_made_again(root, kdd):
    first = build(root)
    (kept,) = (root / ".cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert torch.equal(build(root).test.inputs, first.test.inputs)
    assert kept.stat().st_size > 1000


def test_other_files_get_another_cache(root, kdd, declare):
    build(root)
    path = root / "kdd99" / tabular.TEST
    path.write_bytes(gzip.compress(kdd[1][:10].to_csv(header=False, index=False).encode()))
    declare("kdd99", "kdd99")
    assert len(build(root).test.targets) == 10


def test_a_read_only_root_uses_the_users_cache_or_none(root, kdd, tmp_path, monkeypatch):
    (root / ".cache").write_text("in the way: no folder can be made here")
    first = build(root)
    (kept,) = (tmp_path / "user" / "normtables" / "derived").iterdir()
    assert kept.suffix == ".npz"
    kept.unlink()
    monkeypatch.setattr(derived, "folders", lambda root: [root / ".cache"])
    assert torch.equal(build(root).test.inputs, first.test.inputs)


def test_the_real_files_have_the_published_counts(shared, root):
    (root / "kdd99").symlink_to(shared / "data" / "kdd99")
    assert files.state("kdd99", root) == "present"
    found = load({"name": "kdd99", "scale": "log"}, root, 0)
    assert found.train.inputs.shape == (484_021, 118)
    assert found.valid.inputs.shape == (10_000, 118)
    counts = found.test.targets.bincount()
    assert dict(zip(tabular.CLASSES, counts.tolist())) == {
        "normal": 60_593, "dos": 229_853, "probe": 4_166, "r2l": 16_189, "u2r": 228,
    }  # fmt: skip
    assert round(100 * (1 - counts[1].item() / len(found.test.targets)), 3) == 26.099
    trained = found.train.targets.bincount() + found.valid.targets.bincount()
    assert trained.tolist() == [97_278, 391_458, 4_107, 1_126, 52]
    hot = found.test.inputs[:, 38:].sum(1)
    assert (hot == 3).sum() == 311_029 - 2  # two rows of service "icmp", which training lacks
