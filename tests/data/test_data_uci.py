"""UCI sets: embedded ones are the archive's, partitions by fold, one scale, and a line for whatever is wrong."""

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits, load_wine

from normtables.data import files, load, splits, uci
from normtables.errors import UserError
from normtables.places import EXPERIMENTS

ROWS = 60


def write(folder, name, tables, classes, folds=None):
    """A set in the archive's format: tables of (inputs, targets); folds of (train, test) rows of the first."""
    (folder / name).mkdir(parents=True)
    endings = ["train_R", "test_R"] if len(tables) == 2 else ["R"]
    text = [f"n_entradas= {tables[0][0].shape[1]}", f"n_clases= {classes}", f"n_arquivos= {len(tables)}"]
    for number, (ending, (inputs, targets)) in enumerate(zip(endings, tables), 1):
        text += [f"fich{number}= {name}_{ending}.dat", f"n_patrons{number}= {len(targets)}"]
        lines = ["\t".join(["", *(f"f{i + 1}" for i in range(inputs.shape[1])), "clase"])]
        lines += [
            "\t".join([str(i + 1), *map(repr, x.tolist()), str(y)]) for i, (x, y) in enumerate(zip(*tables[number - 1]))
        ]
        (folder / name / f"{name}_{ending}.dat").write_text("\n".join(lines) + "\n")
    (folder / name / f"{name}.txt").write_text("\n".join(text) + "\n")
    lines = [" ".join(map(str, part)) for fold in folds or [] for part in fold]
    (folder / name / "conxuntos_kfold.dat").write_text("\n".join(lines) + "\n")


@pytest.fixture
def car(root):
    """60 rows of 4 inputs (one constant), 3 classes, four overlapping folds, in the archive's own layout."""
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(2, 3, (ROWS, 4)), np.arange(ROWS) % 3
    inputs[:, 2] = 5
    orders = [rng.permutation(ROWS) for _ in range(4)]
    folds = [(order[15:], order[:15]) for order in orders]
    write(root / "uci121", "car", [(inputs, targets)], 3, folds)
    return inputs, targets, folds


def get(root, name, seed=0, **options):
    return load({"name": "uci", "set": name, **options}, root, seed)


def refusal(root, name, **options):
    with pytest.raises(UserError) as error:
        get(root, name, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def whole(data):
    """Inputs and targets of training and validation together."""
    parts = (data.train, data.valid)
    return np.concatenate([p.inputs.numpy() for p in parts]), np.concatenate([p.targets.numpy() for p in parts])


def test_121_names_and_the_46_large_ones():
    assert (len(uci.LARGE), len(uci.SMALL), len(uci.TESTED)) == (46, 75, 19)
    assert len({*uci.LARGE, *uci.SMALL}) == 121
    assert {*uci.TESTED} < {*uci.LARGE, *uci.SMALL}
    assert {*uci.EMBEDDED} == {"iris", "wine", "breast-cancer-wisc-diag", "digits"}


def test_the_table_names_the_large_sets():
    columns = yaml.safe_load((EXPERIMENTS / "table_05.yaml").read_text(encoding="utf-8"))["columns"]
    tiers = columns["average rank difference"]["tiers"]
    assert tiers["paper"]["over"]["dataset.set"] == uci.LARGE
    assert {*tiers["short"]["over"]["dataset.set"]} < {*uci.LARGE}
    assert {*columns["embedded average rank difference"]["over"]["dataset.set"]} == {*uci.EMBEDDED}


@pytest.mark.parametrize(
    ("name", "sizes", "inputs", "classes"),
    [
        ("iris", (96, 17, 37), 4, 3),
        ("wine", (114, 20, 44), 13, 3),
        ("breast-cancer-wisc-diag", (363, 64, 142), 30, 2),
        ("digits", (1146, 202, 449), 64, 10),
    ],
)
def test_embedded_sets_need_no_files(tmp_path, name, sizes, inputs, classes):
    assert files.state("uci", tmp_path / "gone", name) == "embedded"
    found = get(tmp_path / "gone", name)
    assert found.classes == classes
    for split, size in zip((found.train, found.valid, found.test), sizes):
        assert split.inputs.shape == (size, inputs)
        assert split.inputs.dtype == torch.float32
        assert split.targets.unique().tolist() == list(range(classes))


def test_the_test_rows_of_a_shipped_set_are_the_folds_bits(tmp_path):
    bits = uci.FOLDS["wine"][2]
    rows = [i for i in range(178) if f"{bits:0178b}"[::-1][i] == "1"]
    inputs, targets = load_wine(return_X_y=True)
    assert get(tmp_path, "wine", fold=2).test.targets.tolist() == targets[rows].tolist()
    (_, _), (found, _) = uci.shipped("wine", 2)
    assert np.array_equal(found, inputs[rows])


def test_quarters_of_digits_are_stratified_and_differ_by_fold(tmp_path):
    labels = load_digits().target
    tests = [get(tmp_path, "digits", fold=fold).test for fold in range(4)]
    for test in tests:
        assert (abs(np.bincount(test.targets) - np.bincount(labels) / 4) < 1).all()
    assert not torch.equal(tests[0].inputs, tests[1].inputs)
    assert torch.equal(get(tmp_path, "digits", seed=5).test.targets, tests[0].targets), (
        "the data seed leaves them alone"
    )


@pytest.mark.parametrize("fold", range(4))
def test_a_fold_of_the_files(root, car, fold):
    inputs, targets, folds = car
    found = get(root, "car", fold=fold)
    train, test = (np.sort(part) for part in folds[fold])
    assert found.test.targets.tolist() == targets[test].tolist()
    assert [len(found.train.targets), len(found.valid.targets)] == [38, 7]
    assert found.valid.targets.bincount().tolist() in ([2, 2, 3], [2, 3, 2], [3, 2, 2])
    # what was 5 everywhere is 0; the others are an affine map of what was written, the same in every split
    together = np.concatenate([whole(found)[0], found.test.inputs.numpy()])
    assert (together[:, 2] == 0).all()
    raw = np.concatenate([inputs[train], inputs[test]])
    order = [np.argsort(x[:, 0]) for x in (together, raw)]
    for column in (0, 1, 3):
        slope, offset = np.polyfit(raw[order[1], column], together[order[0], column], 1)
        np.testing.assert_allclose(together[order[0], column], slope * raw[order[1], column] + offset, atol=1e-5)


def test_of_very_few_rows_one_validates(root):
    inputs, targets = np.arange(4.0)[:, None], np.array([0, 0, 0, 1])
    write(root / "uci121", "trains", [(inputs, targets)], 2, [([0, 1, 3], [2])] * 4)
    found = get(root, "trains")
    assert [len(split.targets) for split in (found.train, found.valid, found.test)] == [2, 1, 1]


def test_the_scale_is_that_of_the_training_rows_alone(root, car):
    found = get(root, "car")
    own = found.train.inputs[:, [0, 1, 3]].double()
    torch.testing.assert_close(own.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(own.var(0, correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)
    assert found.valid.inputs.mean(0).abs().max() > 0.01


def test_the_data_seed_draws_the_validation_rows(root, car):
    first, second = get(root, "car"), get(root, "car", seed=1)
    assert torch.equal(first.test.targets, second.test.targets)
    assert not torch.equal(first.valid.inputs, second.valid.inputs)
    assert sorted(whole(first)[1]) == sorted(whole(second)[1])


def test_a_test_file_on_another_scale_is_brought_to_the_first_ones(root):
    rng = np.random.default_rng(1)
    train, test = rng.normal(0, 1, (40, 3)), rng.normal(0, 1, (30, 3))
    train, test = ((x - x.mean(0)) / x.std(0) for x in (train, test))
    test[:, 1] = -3.7e-16  # a constant with rounding stays one
    y, z = np.arange(40) % 2, np.arange(30) % 2
    write(root / "uci121" / "data", "hill-valley", [(train, y), (test * 1000 + 8605, z)], 2)
    found = get(root, "hill-valley")
    kept = splits.stratified(y, 6, "valid", splits.generator(0))[0]
    mean, deviation = train[kept].mean(0), train[kept].std(0)
    np.testing.assert_allclose(found.train.inputs, (train[kept] - mean) / deviation, atol=1e-5)
    np.testing.assert_allclose(found.test.inputs[:, [0, 2]], ((test - mean) / deviation)[:, [0, 2]], atol=1e-4)
    assert found.test.inputs[:, 1].unique().numel() == 1
    assert found.test.targets.tolist() == z.tolist()


def test_only_the_set_that_is_asked_for_must_be_there(root, car):
    assert files.state("uci", root, "car") == "present"
    assert files.state("uci", root) == "partial"
    assert files.download_bytes("uci", root, "car") == files.download_bytes("uci", root, "iris") == 0
    assert files.download_bytes("uci", root, "bank") == 195_000_000
    assert files.needs({"name": "uci", "set": "bank", "fold": 0}) == [("uci", "bank")]
    assert files.needs({"name": "mnist", "valid": 1}) == [("mnist", "")]
    [row] = [row for row in files.listing(root) if row["name"] == "uci"]
    assert row["state"] == "partial"
    assert "is missing; run `normtables data fetch uci`" in row["how"]


def test_a_missing_set_is_one_line(root, car):
    looked = f"{root / 'uci121'} and {root / 'uci121' / 'data'}"
    assert refusal(root, "bank") == (
        f"data set 'uci' is not there: looked in {looked}; run `normtables data fetch uci`, "
        "or point data.root=FOLDER or NORMTABLES_DATA at a copy"
    )
    write(root / "uci121" / "data", "miniboone", [(np.zeros((4, 1)), np.arange(4))], 4, [])
    path = root / "uci121" / "data" / "miniboone" / "miniboone_R.dat"
    path.unlink()
    assert refusal(root, "miniboone").startswith(f"data set 'uci': {path} is missing; run")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"set": "cra"}, "no UCI data set 'cra'; did you mean 'car'"),
        ({"set": "car", "fold": 4}, "dataset.fold=4: choose one of 0, 1, 2, 3"),
        ({"set": "iris", "fold": -1}, "dataset.fold=-1: choose one of"),
        ({"set": "hill-valley", "fold": 1}, "dataset.fold=1: hill-valley has a test file of its own, only fold 0"),
    ],
)
def test_bad_options_are_refused(root, options, says):
    assert says in refusal(root, options.pop("set"), **options)


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("car_R.dat", lambda text: text[: len(text) // 2], "does not hold what the set's .txt file says"),
        ("car_R.dat", lambda text: text.replace("\t2\n", "\t3\n"), "does not hold what the set's .txt file says"),
        ("car_R.dat", lambda text: "\x00nothing", "does not hold what the set's .txt file says"),
        ("car.txt", lambda text: text.replace("n_clases", "n_class"), "does not tell n_clases"),
        (
            "car_R.dat",
            lambda text: text.replace("\t5.0\t", "\tinf\t", 1),
            "does not hold what the set's .txt file says",
        ),
        ("conxuntos_kfold.dat", lambda text: text.replace("7 ", "8 "), "fold 0 does not name each of 60 rows once"),
        ("conxuntos_kfold.dat", lambda text: text.partition("\n")[0], "fold 0 does not name each of 60 rows once"),
        ("conxuntos_kfold.dat", lambda text: f"x {text}", "fold 0 does not name each of 60 rows once"),
        ("conxuntos_kfold.dat", lambda text: "\udcff", "fold 0 does not name each of 60 rows once"),
        ("conxuntos_kfold.dat", lambda text: f"{10**20} {text}", "fold 0 does not name each of 60 rows once"),
        ("car.txt", lambda text: re.sub(r"n_clases=.*", "n_clases= 99999999999", text), "classes of 60 rows"),
    ],
)
def test_files_that_disagree_are_named(root, car, file, change, says):
    path = root / "uci121" / "car" / file
    path.write_text(change(path.read_text()), errors="surrogateescape")
    assert refusal(root, "car").startswith(f"data set 'uci': {path} is damaged: ")
    assert says in refusal(root, "car")


def test_a_folder_in_a_files_place_is_told(root, car):
    path = root / "uci121" / "car" / "car.txt"
    path.unlink()
    path.mkdir()
    assert "data set 'uci': " in refusal(root, "car")


# the archive itself


@pytest.fixture(scope="module")
def archive(shared, tmp_path_factory):
    """A data root with the small files of the developers' copy of the archive: sizes, folds, a few sets."""
    root = tmp_path_factory.mktemp("archive")
    path = shared / "data" / "uci121" / "data.tar.xz"
    if not path.exists():
        pytest.skip(f"no {path}")
    chosen = ("iris", "wine", "breast-cancer-wisc-diag", "hill-valley", "annealing", "car")
    with tarfile.open(path) as tar:
        for member in tar:
            name = Path(member.name)
            if name.suffix == ".txt" or name.name.startswith("conxuntos_k") or name.parent.name in chosen:
                tar.extract(member, root / "uci121", filter="data")
    return root


def facts_of(archive, name):
    return uci.described(archive / "uci121" / "data" / name / f"{name}.txt")


def test_46_sets_have_at_least_1000_patterns_and_19_a_test_file(archive):
    facts = {name: facts_of(archive, name) for name in (*uci.LARGE, *uci.SMALL)}
    sizes = {name: found["n_patrons1"] + found.get("n_patrons2", 0) for name, found in facts.items()}
    assert sorted(name for name, size in sizes.items() if size >= 1000) == uci.LARGE
    assert sorted(name for name, found in facts.items() if found["n_arquivos"] == 2) == uci.TESTED


def test_every_fold_of_the_archive_can_be_read(archive):
    for name in (*uci.LARGE, *uci.SMALL):
        path = archive / "uci121" / "data" / name / "conxuntos_kfold.dat"
        for fold in range(4):
            uci.indices(path, fold, facts_of(archive, name)["n_patrons1"])


@pytest.mark.parametrize("name", list(uci.FOLDS))
def test_what_scikit_learn_ships_is_the_archives_set(archive, name):
    place = files.Place(archive, files.SOURCES["uci"].layouts[1])
    for fold in range(4):
        ours, theirs = uci.shipped(name, fold), uci.read(place, name, fold)[:2]
        scaled = uci.standardised([ours[0][0], ours[1][0]])
        for found, (_, targets), (inputs, expected) in zip(scaled, ours, rescaled(theirs)):
            assert np.array_equal(targets, expected)
            np.testing.assert_allclose(found, inputs, atol=1e-4)


def rescaled(parts):
    return zip(uci.standardised([inputs for inputs, _ in parts]), [targets for _, targets in parts])


@pytest.mark.parametrize(
    ("name", "sizes"), [("hill-valley", (515, 91, 606)), ("annealing", (678, 120, 100)), ("car", (1102, 194, 432))]
)
def test_real_files_load(archive, name, sizes):
    found = get(archive, name)
    assert tuple(len(split.targets) for split in (found.train, found.valid, found.test)) == sizes
    assert found.test.inputs.abs().max() < 50, "both files are on one scale"
