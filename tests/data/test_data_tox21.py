"""Tox21: sets, folds, features from SMILES, labels never filled; DeepTox's files; the synthetic tasks."""

import gzip
import io
import tarfile
from hashlib import md5

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import mmwrite
from scipy.sparse import csr_matrix

from normtables.data import derived, files, load, molecules, synthetic_tasks, tox21
from normtables.errors import UserError

NEEDS = "RDKit, the extra `chem`, makes the features"
SMILES = ["CCO", "c1ccccc1O", "CC(=O)O", "CCN", "CCCCCC", "c1ccncc1", "CC(C)O", "C1CCCCC1", "OCC(O)CO", "CCOC(=O)C"]
N = 60


@pytest.fixture
def table():
    """60 compounds: 40 for training (folds 0..4, then none), 8 of the leaderboard, 12 for testing; labels missing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"ID": [f"NCGC{i:04d}-01" for i in range(N)], "inchikey": "K", "order": range(N)})
    frame["set"] = ["training"] * 40 + ["validation"] * 8 + ["test"] * 12
    frame["CVfold"] = [i % 5 if i < 30 else None for i in range(40)] + [5] * 8 + [None] * 10 + [0, 1]
    labels = rng.integers(0, 2, (N, 12)).astype(float)
    labels[rng.uniform(size=labels.shape) < 0.3] = np.nan
    frame[list(tox21.TASKS)] = labels
    return frame


@pytest.fixture
def smiles():
    """A SMILES for each compound; that of number 3 cannot be parsed."""
    found = [SMILES[i % 10] + "C" * (i // 10) for i in range(N)]
    found[3] = "c1ccc"
    return found


def smiles_files(table, smiles):
    """Names to contents of .smiles files: assays name some training compounds each, the test files have no labels."""
    rows = [f"{text}\t{name}" for text, name in zip(smiles, table["ID"])]
    found = {file.path: "" for file in tox21.SMILES}
    found["nr-ahr.smiles"] = "\n".join(f"{row}\t0" for row in rows[:30]) + "\n"
    found["sr-p53.smiles"] = "\n".join(f"{row}\t1" for row in rows[20:40]) + "\n"
    found["tox21_10k_challenge_test.smiles"] = "\n".join(rows[40:48]) + "\n"
    found["tox21_10k_challenge_score.smiles"] = "\n".join(["#SMILES\tSample ID", *rows[48:]]) + "\n"
    return found


@pytest.fixture
def loose(root, table, smiles, monkeypatch, small_files):
    (root / "tox21").mkdir(exist_ok=True)
    for name, text in smiles_files(table, smiles).items():
        (root / "tox21" / name).write_text(text)
    table.to_csv(root / "tox21" / tox21.SETS, index=False)
    small_files()


@pytest.fixture
def packed(root, table, smiles, small_files):
    (root / "tox21").mkdir(exist_ok=True)
    with tarfile.open(root / "tox21" / tox21.PACKED[0].path, "w:gz") as archive:
        for name, text in smiles_files(table, smiles).items():
            member = tarfile.TarInfo(f"data_raw/train/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    table.to_csv(root / "tox21" / tox21.PACKED[1].path, index=False)
    small_files()


@pytest.fixture
def small_files(root, monkeypatch):
    """Declare the files as they are now to be the challenge's."""

    def entry(file):
        path = root / "tox21" / file.path
        content = path.read_bytes() if path.exists() else b""
        return files.File(file.path, len(content), md5(content).hexdigest())

    def declare():
        source = files.SOURCES["tox21"]
        layouts = tuple(files.Layout(old.folder, tuple(map(entry, old.files))) for old in source.layouts)
        monkeypatch.setitem(files.SOURCES, "tox21", files.Source(layouts, 1, "none"))

    return declare


@pytest.fixture
def made(monkeypatch, smiles):
    """Features without RDKit: 4 numbers (one constant, one not defined for 5, one rare) and 3 substructures."""
    numbers = np.random.default_rng(1).normal(3, 2, (N, 4))
    numbers[:, 1], numbers[5, 2], numbers[:, 3] = 7, np.inf, np.arange(N) < 2
    numbers[3] = np.nan
    counts = [(i, 4_000_000_000, 1 + i % 3) for i in range(0, N, 2)]
    counts += [(i, 17, 2) for i in (0, 1)] + [(i, 99, 1 + i % 2) for i in (1, 4, 5, 50)]
    asked = []

    def features(texts):
        asked.append(list(texts))
        return numbers, np.array(counts, np.uint32)

    monkeypatch.setattr(molecules, "features", features)
    return numbers, asked


def get(root, name="tox21", **options):
    return load({"name": name, **options}, root, 0)


def sizes(data):
    return [len(split.targets) for split in (data.train, data.valid, data.test)]


def test_sets_of_the_challenge(root, loose, made, table, smiles):
    found = get(root)
    assert sizes(found) == [39, 8, 12]
    assert made[1] == [smiles], "one SMILES a compound, in the table's order"
    kept = [i for i in range(40) if i != 3]
    for split, rows in ((found.train, kept), (found.valid, range(40, 48)), (found.test, range(48, 60))):
        expected = table[list(tox21.TASKS)].to_numpy()[list(rows)]
        np.testing.assert_array_equal(split.targets.numpy(), expected.astype(np.float32))
        assert split.inputs.dtype == split.targets.dtype == torch.float32
        assert split.targets.isnan().any(), "missing labels stay missing"
        assert split.inputs.isfinite().all()


@pytest.mark.parametrize("fold", range(5))
def test_a_cross_validation_fold_and_the_leaderboard_set_in_training(root, loose, made, table, fold):
    found = get(root, fold=fold)
    held = [i for i in range(30) if i % 5 == fold and i != 3]
    assert sizes(found) == [47 - len(held), len(held), 12]
    expected = table[list(tox21.TASKS)].to_numpy(np.float32)
    np.testing.assert_array_equal(found.valid.targets.numpy(), expected[held])
    np.testing.assert_array_equal(found.train.targets.numpy()[-8:], expected[40:48])


def test_features_are_kept_by_the_training_compounds_and_scaled_by_them(root, loose, made):
    """Of 39 training compounds more than 1.95 must have a feature: 4e9 (20), 99 (three) and 17 (two) do, the rare
    number (two) too; of 41 without the fold of compounds 0, 5, ... three must, and only 4e9 is left."""
    numbers = made[0]
    found = get(root)
    train = [i for i in range(40) if i != 3]
    assert found.train.inputs.shape == (39, 4 + 3)
    assert (found.train.inputs[:, 1] == 0).all(), "a constant"
    own = found.train.inputs.double().numpy()
    np.testing.assert_allclose(own.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(own.std(0)[[0, 3, 4, 5, 6]], 1, atol=1e-5)
    assert own[:, 2].std() == pytest.approx((38 / 39) ** 0.5)
    assert own[train.index(5), 2] == 0, "what is not defined is the mean"
    mean, deviation = numbers[train, 0].mean(), numbers[train, 0].std()
    np.testing.assert_allclose(found.test.inputs[:, 0], (numbers[48:, 0] - mean) / deviation, atol=1e-5)
    counts = np.zeros(N)
    counts[0:N:2] = [1 + i % 3 for i in range(0, N, 2)]
    mean, deviation = counts[train].mean(), counts[train].std()
    np.testing.assert_allclose(found.test.inputs[:, 6], (counts[48:] - mean) / deviation, atol=1e-5)
    assert get(root, fold=0).train.inputs.shape == (41, 3 + 1)


def test_features_are_computed_once(root, loose, made, monkeypatch):
    first = get(root)
    again = tox21.tox21(root, 0)
    assert len(made[1]) == 1
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert len([p for p in derived.folders(root)[0].iterdir() if p.suffix == ".npy"]) == 2


def test_packed_files_hold_the_same(root, packed, made, smiles):
    assert sizes(get(root)) == [39, 8, 12]
    assert made[1] == [smiles]


def test_without_rdkit_it_is_one_line(root, loose, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(UserError, match=r"^features from SMILES need RDKit, the extra `chem`: pip install"):
        get(root)


def test_a_compound_without_smiles_is_named(root, loose, small_files, table):
    pd.concat([table, table.iloc[:1].assign(ID="NCGC9999-01")]).to_csv(root / "tox21" / tox21.SETS, index=False)
    small_files()
    with pytest.raises(UserError, match="1 compounds have no SMILES, the first is NCGC9999-01"):
        get(root)


def test_missing_files_and_bad_folds(root):
    (root / "else").mkdir()
    with pytest.raises(UserError, match=f"not there: looked in {root / 'tox21'}; run `normtables data fetch tox21`"):
        get(root)
    with pytest.raises(UserError, match="fold=5 should be one of leaderboard, 0, 1, 2, 3, 4"):
        get(root, fold=5)


# RDKit itself


def test_descriptors_and_circular_counts():
    pytest.importorskip("rdkit", reason=NEEDS)
    from rdkit import Chem
    from rdkit.Chem import Descriptors

    numbers, counts = molecules.features(["CCO", "not a molecule", "[Cl-][Pt]1([Cl-])NCCN1", "OCC"])
    names = [name for name, _ in Descriptors.descList if name not in molecules.LEFT_OUT]
    assert numbers.shape == (4, len(names))
    assert numbers[0, names.index("MolWt")] == pytest.approx(46.07, abs=0.01)
    assert numbers[0, names.index("TPSA")] == pytest.approx(20.23)
    assert np.isnan(numbers[[1, 2]]).all(), "a SMILES that cannot be parsed"
    assert Chem.MolFromSmiles("CCO") is not None
    of = {row: {tuple(c) for c in counts[counts[:, 0] == row][:, 1:]} for row in range(4)}
    assert of[0] == of[3], "the same molecule"
    assert not of[1]
    assert sum(count for _, count in of[0]) == 3 + 2 + 1, "atoms; both ends' neighbours; the whole from the middle"


def test_substructures_reach_five_bonds_around_an_atom():
    """Of a chain of 30 carbons 28 have two neighbours, 26 of them no end within one bond more, ..., 18 within five."""
    pytest.importorskip("rdkit", reason=NEEDS)
    _, counts = molecules.features(["C" * 30])
    assert sorted(count for _, _, count in counts if count > 2) == [18, 20, 22, 24, 26, 28]


# DeepTox's files


@pytest.fixture
def deeptox(root, table):
    rng = np.random.default_rng(2)
    dense, sparse = rng.normal(5, 3, (N, 3)), (rng.uniform(size=(N, 40)) < np.linspace(0, 0.3, 40)) * 2.0
    (root / "tox21").mkdir(exist_ok=True)
    table.sample(frac=1, random_state=0).to_csv(root / "tox21" / tox21.SETS, index=False)
    for part, rows in (("train", slice(0, 48)), ("test", slice(48, None))):
        frame = pd.DataFrame(dense[rows], index=table["ID"][rows], columns=["a", "b", "c"])
        frame.to_csv(root / "tox21" / f"tox21_dense_{part}.csv.gz")
        with gzip.open(root / "tox21" / f"tox21_sparse_{part}.mtx.gz", "wb") as file:
            mmwrite(file, csr_matrix(sparse[rows]))
    return dense, sparse


def test_deeptoxs_features(root, deeptox, table):
    dense, sparse = deeptox
    found = get(root, "tox21_deeptox")
    assert sizes(found) == [40, 8, 12]
    kept = (sparse[:40] != 0).mean(0) > 0.05
    assert 0 < kept.sum() < 40
    raw = np.concatenate([dense, sparse[:, kept]], 1)
    expected = (raw - raw[:40].mean(0)) / raw[:40].std(0)
    for split, rows in ((found.train, slice(0, 40)), (found.valid, slice(40, 48)), (found.test, slice(48, 60))):
        np.testing.assert_allclose(split.inputs, expected[rows], atol=1e-5)
        labels = table[list(tox21.TASKS)].to_numpy(np.float32)[rows]
        np.testing.assert_array_equal(split.targets.numpy(), labels)


def test_deeptoxs_files_must_agree(root, deeptox, table):
    (root / "tox21" / "tox21_dense_test.csv.gz").unlink()
    with pytest.raises(UserError, match=r"tox21_dense_test.csv.gz is missing; run `normtables data fetch"):
        get(root, "tox21_deeptox")
    pd.DataFrame({"a": [1.0]}, index=["NCGC9999-01"]).to_csv(root / "tox21" / "tox21_dense_test.csv.gz")
    with pytest.raises(UserError, match="does not name every compound of the features"):
        get(root, "tox21_deeptox")
    pd.DataFrame({"a": [1.0]}, index=table["ID"][:1]).to_csv(root / "tox21" / "tox21_dense_test.csv.gz")
    with pytest.raises(UserError, match="60 rows of sparse features, 49 compounds"):
        get(root, "tox21_deeptox")
    (root / "tox21" / "tox21_dense_test.csv.gz").write_bytes(b"broken")
    with pytest.raises(UserError, match="is not a table that can be read"):
        get(root, "tox21_deeptox")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tox21_sparse_train.mtx.gz", b"broken"),
        ("tox21_sparse_train.mtx.gz", gzip.compress(b"%%MatrixMarket matrix\n1 2")),
        ("tox21_sparse_test.mtx.gz", gzip.compress(b"%%MatrixMarket " * 9)[:20]),
        ("tox21_dense_test.csv.gz", gzip.compress(b"ID,a\n" + b"".join(b"NCGC00%d-01,x\n" % i for i in range(48, 60)))),
    ],
    ids=["no gzip", "no header", "cut off", "text"],
)
def test_damaged_features_of_deeptox_are_one_line(root, deeptox, file, content):
    (root / "tox21" / file).write_bytes(content)
    with pytest.raises(UserError, match=r"the features in .* are damaged: ") as error:
        get(root, "tox21_deeptox")
    assert "\n" not in str(error.value)


def test_flipped_bytes_are_told(root, deeptox):
    path = root / "tox21" / "tox21_dense_train.csv.gz"
    whole = bytearray(path.read_bytes())
    whole[60:68] = bytes(255 - byte for byte in whole[60:68])
    path.write_bytes(whole)
    with pytest.raises(UserError, match=r"(is not a table that can be read|are damaged): ") as error:
        get(root, "tox21_deeptox")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("NR.AR", "toxic", "'toxic' is no NR.AR of compound "),
        ("SR.p53", 7, " is no SR.p53 of compound "),
        ("set", "trainning", "'trainning' is no set of compound "),
    ],
)
def test_labels_and_sets_of_another_kind_are_named(root, deeptox, table, column, value, says):
    changed = table.astype({column: object})
    changed.loc[3, column] = value
    changed.to_csv(root / "tox21" / tox21.SETS, index=False)
    with pytest.raises(UserError, match="is damaged: ") as error:
        get(root, "tox21_deeptox")
    assert says in str(error.value)
    assert str(error.value).endswith(str(table["ID"][3]))


# the developers' copies


def test_the_challenges_compounds(shared, tmp_path):
    source = shared / "data" / "tox21"
    if not source.exists():
        pytest.skip(f"no {source}")
    (tmp_path / "tox21").symlink_to(source)
    place = files.locate("tox21", tmp_path)
    table = tox21.compounds(place.path(place.layout.files[-1].path))
    assert len(tox21.ordered(place, table["ID"].tolist())) == 12_707
    assert np.bincount(tox21.roles(table, "leaderboard")).tolist() == [11_764, 296, 647]
    assert np.bincount(tox21.roles(table, 0)).tolist() == [11_764 + 296 - 1_558, 1_558, 647]
    labels = table[list(tox21.TASKS)].notna().sum()
    assert labels["NR.AhR"] == 8_169 + 272 + 610


# the synthetic tasks


def test_synthetic_tasks(tmp_path):
    first, second = (load({"name": "synthetic_tasks"}, tmp_path, seed) for seed in (0, 1))
    assert sizes(first) == [1_300, 300, 400]
    assert first.train.inputs.shape == (1_300, 100)
    assert not torch.equal(first.test.inputs, second.test.inputs)
    rows = [torch.cat([s.inputs for s in (d.train, d.valid, d.test)]).sum(1).sort().values for d in (first, second)]
    torch.testing.assert_close(*rows, msg="the rows are always the same")
    labels = torch.cat([split.targets for split in (first.train, first.valid, first.test)])
    assert set(labels[~labels.isnan()].unique().tolist()) == {0, 1}
    inputs, targets = synthetic_tasks.drawn()
    np.testing.assert_allclose(inputs[0, :3], [-0.80153495, 0.6019682, 1.4965372], rtol=1e-5)
    shown = ["".join("?" if np.isnan(v) else f"{v:.0f}" for v in row) for row in targets[:3]]
    assert shown == ["00001????00?", "010?0000?001", "000010?00000"], "for ever"
    missing, positive = labels.isnan().float().mean(0), labels.nanmean(0)
    np.testing.assert_allclose(missing, np.linspace(0.1, 0.4, 12), atol=0.04)
    np.testing.assert_allclose(positive, np.linspace(0.1, 0.3, 12), atol=0.03)
