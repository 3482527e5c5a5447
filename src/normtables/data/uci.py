"""The 121 UCI data sets of Fernandez-Delgado et al. 2014 (JMLR 15), original partitions; docs/tabular.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Dataset, files, splits
from normtables.data.files import File, Layout, Source
from normtables.data.folders import Folder
from normtables.errors import UserError, lookup

Doubles = NDArray[np.float64]
Rows = tuple[Doubles, NDArray[np.int64]]  # inputs [N, F], targets [N]

# fmt: off
LARGE = """
    abalone adult bank car cardiotocography-10clases cardiotocography-3clases chess-krvk chess-krvkp connect-4 contrac
    hill-valley image-segmentation led-display letter magic miniboone molec-biol-splice mushroom musk-2 nursery
    oocytes_merluccius_nucleus_4d oocytes_merluccius_states_2f optical ozone page-blocks pendigits plant-margin
    plant-shape plant-texture ringnorm semeion spambase statlog-german-credit statlog-image statlog-landsat
    statlog-shuttle steel-plates thyroid titanic twonorm wall-following waveform waveform-noise wine-quality-red
    wine-quality-white yeast""".split()  # noqa: SIM905  (46 with at least 1,000 patterns)
SMALL = """
    acute-inflammation acute-nephritis annealing arrhythmia audiology-std balance-scale balloons blood breast-cancer
    breast-cancer-wisc breast-cancer-wisc-diag breast-cancer-wisc-prog breast-tissue congressional-voting
    conn-bench-sonar-mines-rocks conn-bench-vowel-deterding credit-approval cylinder-bands dermatology echocardiogram
    ecoli energy-y1 energy-y2 fertility flags glass haberman-survival hayes-roth heart-cleveland heart-hungarian
    heart-switzerland heart-va hepatitis horse-colic ilpd-indian-liver ionosphere iris lenses libras low-res-spect
    lung-cancer lymphography mammographic molec-biol-promoter monks-1 monks-2 monks-3 musk-1
    oocytes_trisopterus_nucleus_2f oocytes_trisopterus_states_5b parkinsons pima pittsburg-bridges-MATERIAL
    pittsburg-bridges-REL-L pittsburg-bridges-SPAN pittsburg-bridges-T-OR-D pittsburg-bridges-TYPE planning
    post-operative primary-tumor seeds soybean spect spectf statlog-australian-credit statlog-heart statlog-vehicle
    synthetic-control teaching tic-tac-toe trains vertebral-column-2clases vertebral-column-3clases wine
    zoo""".split()  # noqa: SIM905  (75 with fewer)
TESTED = """
    adult annealing audiology-std conn-bench-vowel-deterding hayes-roth hill-valley horse-colic image-segmentation
    monks-1 monks-2 monks-3 optical pendigits soybean spect spectf statlog-landsat statlog-shuttle
    thyroid""".split()  # noqa: SIM905  (19 with a test file of their own)
FOLDS = {  # the test rows of the four original folds as bits, row 0 the lowest, of sets that scikit-learn ships
    "iris": (
        0x2050013D141000B880C049C00194408122C012, 0x2091400584508040050626B20101E480422809,
        0x292B900C0002020C6301020215201050C1048E, 0xA84B00000638C020030282388015380810709,
    ),
    "wine": (
        0x29040A1012610208450601226B440830A808518200403, 0x202B04410C80A101444080180D829A14A86400002A248,
        0x22010E30018242064042284C508881D10000208CA9013, 0x20051028A40C8000C051EE10A880440A0499662002080,
    ),
    "breast-cancer-wisc-diag": (
        0x44320A1111601108206A30080642E605094020A148152824021180024682038280E258525400C005A05240D521404802224198000820100200345A4A23539400214130D082000,
        0x1C72C5EA28E1511210914248F1402A2000047509489088404822004008000040A2003B29811A340B0628000208D69850803002032210000088038380010020380882500981A01C8,
        0x1D48125D0205C100A28171440D00932600AAD24000430880208001814001D4C8201200223108840850322D4480860000602002644010150A4608022E7082E20903110840509010C,
        0x1048483416205003101409510A20C04002921950005021800180881421E280001104218180420050488340884C32C150226A00B48B64000D9287D88120CC01014482600A25A0002,
    ),
}
# fmt: on
EMBEDDED = (*FOLDS, "digits")
SETS = (*LARGE, *SMALL, "digits")
VALID = 0.15  # of the training part
CONSTANT = 1e-9  # a smaller deviation is the rounding of a constant


def needed(name: str) -> tuple[Folder, ...]:
    """The files of one set."""
    rows = [f"{name}_train_R.dat", f"{name}_test_R.dat"] if name in TESTED else [f"{name}_R.dat"]
    return tuple(Folder(f"{name}/{file}", 1) for file in (f"{name}.txt", "conxuntos_kfold.dat", *rows))


PARTS = {name: needed(name) for name in SETS if name not in EMBEDDED}
files.SOURCES["uci"] = Source(
    layouts=tuple(Layout(folder, parts=PARTS) for folder in ("uci121", "uci121/data")),
    download=195_000_000,  # about
    licence="UCI machine learning repository; each set has its own terms",
    archive=File(
        "data.tar.gz",
        195_000_000,
        "",
        ("http://persoal.citius.usc.es/manuel.fernandez.delgado/papers/jmlr/data.tar.gz",),
    ),
    into="uci121",
    by="set",
    embedded=EMBEDDED,
)


@DATASETS.register("uci", version=1)
def uci(root: Path, seed: int, *, set: str = "breast-cancer-wisc-diag", fold: int = 0) -> Dataset:
    """One of 121 UCI data sets (or `digits`), [N, F], standardised over its training rows.

    `fold` 0..3: the original test sets; a set with a test file of its own has only fold 0. `seed` draws 15 % of the
    training part for validation, stratified.
    """
    lookup(dict.fromkeys(SETS), set, "UCI data set")
    if fold not in range(1 if set in TESTED else 4):
        why = f"{set} has a test file of its own, only fold 0" if set in TESTED else "choose one of 0, 1, 2, 3"
        raise UserError(f"dataset.fold={fold}: {why}")
    if set in EMBEDDED:
        (inputs, targets), test = shipped(set, fold)
        classes = int(targets.max()) + 1
    else:
        (inputs, targets), test, classes = read(files.locate("uci", root, set), set, fold)
    size = max(1, round(VALID * len(targets)))
    kept, held = splits.stratified(targets, size, "valid", splits.generator(seed))
    parts = [(inputs[kept], targets[kept]), (inputs[held], targets[held]), test]
    scaled = standardised([part for part, _ in parts])
    return splits.dataset([(x.astype(np.float32), y) for x, (_, y) in zip(scaled, parts)], classes)


def standardised(parts: list[Doubles]) -> list[Doubles]:
    """Each column with mean 0 and variance 1 over the first part; one that is constant there becomes 0 in all."""
    mean, deviation = parts[0].mean(0), parts[0].std(0)
    factor = np.where(deviation > CONSTANT, 1 / np.maximum(deviation, CONSTANT), 0)
    return [(part - mean) * factor for part in parts]


def shipped(name: str, fold: int) -> tuple[Rows, Rows]:
    """Training and test rows of a set that scikit-learn ships, in the archive's order and classes.

    The original folds, or for `digits`, which is no set of the archive, a stratified quarter drawn by the fold.
    """
    from sklearn import datasets  # here, so that listing data sets stays quick

    loads = {"iris": datasets.load_iris, "wine": datasets.load_wine, "digits": datasets.load_digits}
    inputs, targets = loads.get(name, datasets.load_breast_cancer)(return_X_y=True)
    if name == "iris":  # the archive has UCI's errors, which scikit-learn corrects
        inputs[34, 3], inputs[37, 1], inputs[37, 2] = 0.1, 3.1, 1.5
    if name == "breast-cancer-wisc-diag":
        targets = 1 - targets
    if name in FOLDS:
        test = np.array([FOLDS[name][fold] >> row & 1 for row in range(len(targets))], bool)
    else:
        drawn = splits.stratified(targets, round(len(targets) / 4), "fold", splits.generator(fold))[1]
        test = np.isin(np.arange(len(targets)), drawn)
    return (inputs[~test], targets[~test]), (inputs[test], targets[test])


def read(place: files.Place, name: str, fold: int) -> tuple[Rows, Rows, int]:
    """Training rows, test rows and the number of classes of a set in the archive's files.

    Of two files each is standardised by itself first, as most are already: eleven are on another scale. Raises
    UserError for files that disagree with each other.
    """
    facts = described(place.path(f"{name}/{name}.txt"))
    paths = [place.path(str(group.pattern)) for group in needed(name)[2:]]
    tables = [rows(path, facts, number + 1) for number, path in enumerate(paths)]
    if len(tables) == 2:
        train, test = ((standardised([inputs])[0], targets) for inputs, targets in tables)
    else:
        [(inputs, targets)] = tables
        ours, others = indices(place.path(f"{name}/conxuntos_kfold.dat"), fold, len(targets))
        train, test = (inputs[ours], targets[ours]), (inputs[others], targets[others])
    return train, test, facts["n_clases"]


def described(path: Path) -> dict[str, int]:
    """The sizes that a set's .txt file tells: n_entradas (inputs), n_clases, n_patrons1 and n_patrons2 (rows).

    Raises UserError where one is missing.
    """
    pairs = (line.partition("=")[::2] for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    found = {key.strip(): int(value) for key, value in pairs if value.strip().isdecimal()}
    if lacking := {"n_entradas", "n_clases", "n_patrons1"} - set(found):
        raise UserError(f"data set 'uci': {path} is damaged: it does not tell {', '.join(sorted(lacking))}")
    if found["n_clases"] > found["n_patrons1"]:
        raise UserError(f"data set 'uci': {path} is damaged: {found['n_clases']} classes of {found['n_patrons1']} rows")
    return found


def rows(path: Path, facts: dict[str, int], number: int) -> Rows:
    """The rows of a set's file `number`; raises UserError where it does not hold what the .txt file says."""
    import pandas  # here, so that listing data sets stays quick

    expected = (facts.get(f"n_patrons{number}"), facts["n_entradas"] + 1)
    try:
        found = pandas.read_csv(path, sep="\t", index_col=0).to_numpy(np.float64)
    except ValueError:
        found = np.empty((0, 1))
    whole = found.shape == expected and np.isfinite(found).all()
    if not (whole and set(found[:, -1]) <= set(range(facts["n_clases"]))):
        raise UserError(f"data set 'uci': {path} is damaged: it does not hold what the set's .txt file says")
    return found[:, :-1], found[:, -1].astype(np.int64)


def indices(path: Path, fold: int, available: int) -> tuple[splits.Indices, splits.Indices]:
    """Training and test rows of a fold (lines 2 fold and 2 fold + 1); raises UserError unless they are all rows."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        train, test = (np.array(line.split(), np.int64) for line in lines[2 * fold : 2 * fold + 2])
    except (ValueError, OverflowError):  # a line that is missing, or holds something else
        train = test = np.empty(0, np.int64)
    if sorted([*train, *test]) != list(range(available)):
        raise UserError(f"data set 'uci': {path} is damaged: fold {fold} does not name each of {available} rows once")
    return np.sort(train), np.sort(test)
