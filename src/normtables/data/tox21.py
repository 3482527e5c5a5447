"""Tox21 Data Challenge 2014: compounds in twelve assays; features from SMILES, or DeepTox's; docs/tabular.md."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Multilabel, derived, files, molecules, splits
from normtables.data.files import File, Layout, Source
from normtables.data.folders import Folder
from normtables.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

Doubles = NDArray[np.float64]
Fold = Literal["leaderboard", 0, 1, 2, 3, 4]

TASKS = (
    *("NR.AhR", "NR.AR", "NR.AR.LBD", "NR.Aromatase", "NR.ER", "NR.ER.LBD", "NR.PPAR.gamma"),
    *("SR.ARE", "SR.ATAD5", "SR.HSE", "SR.MMP", "SR.p53"),
)
COMMON = 0.05  # a feature is kept if it is not 0 in more than this share of the training compounds
CONSTANT = 1e-9  # a smaller deviation is the rounding of a constant
VERSION = 1  # part of the kept features' names; raise it when `molecules` changes what it computes

CHALLENGE = "https://tripod.nih.gov/tox21/challenge/download?id="
DEEPTOX = "http://bioinf.jku.at/research/DeepTox"
SETS = "tox21_compoundData.csv"
SMILES = tuple(
    File(f"{name}.smiles", size, md5, (f"{CHALLENGE}{name}smiles",))
    for name, size, md5 in (
        ("nr-ahr", 472_354, "ee002605ee6205b98f0aa209cfac86ed"),
        ("nr-ar", 547_819, "40b2c39f360982d902bba750f3fe4843"),
        ("nr-ar-lbd", 490_611, "9b4b13568facfd5772bfa8b80040bc95"),
        ("nr-aromatase", 405_949, "f1428cd812be0b42f2f84227556b1bde"),
        ("nr-er", 435_821, "124688fe7f125028773d1d270be55e54"),
        ("nr-er-lbd", 505_603, "df23aac3372d6fe7f845fe4f3b3e4705"),
        ("nr-ppar-gamma", 455_392, "192de0b59bd2f74767d9e803fd8610af"),
        ("sr-are", 376_444, "b8b7c5186efa493b2c122aafb30f8297"),
        ("sr-atad5", 520_487, "278136e57d7735c4f3e0b0173aa44aa2"),
        ("sr-hse", 438_565, "f3ac45b70e291cb7a5af7448e931acc6"),
        ("sr-mmp", 414_765, "7048f34fb84fbdbb41db0b6c9897b586"),
        ("sr-p53", 494_124, "487a5955b1fbf7fbae0eeef116f85cad"),
        ("tox21_10k_challenge_test", 19_226, "76fe19607727fd336ad2a011c73d3310"),
        ("tox21_10k_challenge_score", 34_889, "90a01b8a9a24be126a260488fcd87a9a"),
    )
)
COMPOUNDS = File(SETS, 1_417_796, "11b78cbb9aa5eb3a6d7f2f27e9157dbb", (f"{DEEPTOX}/{SETS}",))
PACKED = (  # the same in two files, as some repositories have them
    File("tox21_challenge_data_raw.tar.gz", 1_499_920, "edadce2d4cdf9a69980f4680df057109"),
    File(f"{SETS}.gz", 315_070, "ac53eeda4a0e5cd7d71490d5d1bda747"),
)
files.SOURCES["tox21"] = Source(
    layouts=(Layout("tox21", (*SMILES, COMPOUNDS)), Layout("tox21", PACKED)),
    download=sum(file.bytes for file in (*SMILES, COMPOUNDS)),
    licence="Tox21 Data Challenge 2014, US government work; sets and folds: DeepTox, JKU Linz",
)
PARTS = ("train", "test")
ROLES = ("training", "validation", "test")  # of compounds in the challenge
FILES = [f"tox21_{kind}_{part}.{end}.gz" for part in PARTS for kind, end in (("dense", "csv"), ("sparse", "mtx"))]
files.SOURCES["tox21_deeptox"] = Source(
    layouts=(Layout("tox21", groups=tuple(Folder(name, 1) for name in (*FILES, SETS))),),
    download=100_000_000,  # a round figure: its size is not documented
    licence="Tox21 Data Challenge 2014; features: A. Mayr et al., JKU Linz",
    archive=File("tox21.zip", 100_000_000, "", (f"{DEEPTOX}/tox21.zip",)),
    into="tox21",
)


@DATASETS.register("tox21", version=1)
def tox21(root: Path, seed: int, *, fold: Fold = "leaderboard") -> Multilabel:
    """12,702 compounds, [N, F] descriptors and substructure counts by RDKit, with twelve labels or NaN.

    Trained on the challenge's training set, tested on its test set; `fold`: its leaderboard set validates, or one of
    DeepTox's five cross-validation folds, and then the leaderboard set is trained on. Five compounds whose SMILES
    cannot be parsed are left out. `seed` draws nothing.
    """
    place = files.locate("tox21", root)
    table = compounds(place.path(place.layout.files[-1].path))
    numbers, counts = features(place, table["ID"].tolist())
    parsed = ~np.isnan(numbers).all(1)
    part = np.where(parsed, roles(table, fold), -1)
    numbers = numbers[:, frequent(np.isfinite(numbers) & (numbers != 0), part)]
    return dataset(table, part, numbers, counts)


@DATASETS.register("tox21_deeptox", version=1)
def tox21_deeptox(root: Path, seed: int, *, fold: Fold = "leaderboard") -> Multilabel:
    """The challenge's compounds with DeepTox's features, [N, F]: 801 dense ones and the common ones of 272,776 sparse.

    Splits as for `tox21`.
    """
    from scipy import io, sparse  # here, so that listing data sets stays quick

    place = files.locate("tox21_deeptox", root)
    dense = [read(place.path(f"tox21_dense_{part}.csv.gz"), index_col=0) for part in PARTS]
    table = compounds(place.path(SETS)).set_index("ID", drop=False)
    names = [name for frame in dense for name in frame.index]
    if not set(names) <= set(table.index):
        raise UserError(f"data set 'tox21_deeptox': {place.path(SETS)} does not name every compound of the features")
    table = table.loc[names]
    paths = [place.path(f"tox21_sparse_{part}.mtx.gz") for part in PARTS]
    try:
        matrix = sparse.vstack([sparse.coo_matrix(io.mmread(str(path))) for path in paths]).tocoo()
        if (found := matrix.shape[0]) != len(table):
            raise UserError(f"data set 'tox21_deeptox': {found} rows of sparse features, {len(table)} compounds")
        numbers = np.concatenate([frame.to_numpy(np.float64) for frame in dense])
    except (ValueError, OSError, EOFError, zlib.error) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"data set 'tox21_deeptox': the features in {paths[0].parent} are damaged: {why}") from error
    counts = np.stack([matrix.row, matrix.col, matrix.data], 1).astype(np.float64)
    return dataset(table, roles(table, fold), numbers, counts)


def dataset(table: DataFrame, part: NDArray[Any], numbers: Doubles, counts: NDArray[Any]) -> Multilabel:
    """The splits of compounds with these numbers [N, D] and counts (row, column's name, count), scaled.

    part: 0, 1, 2 for training, validation and test, -1 for compounds that are left out.
    """
    inputs = np.concatenate([numbers, common(counts, part)], 1)
    labels = table[list(TASKS)].to_numpy(np.float64)
    rows = [np.flatnonzero(part == number) for number in range(3)]
    scaled = standardised([inputs[chosen] for chosen in rows])
    return splits.multilabel([(x, labels[chosen]) for x, chosen in zip(scaled, rows)])


def common(counts: NDArray[Any], part: NDArray[Any]) -> Doubles:
    """The counts as a matrix, [N, K]: the columns, by name, that are not 0 in enough training compounds."""
    counts = counts[counts[:, 2] != 0]
    _, column = np.unique(counts[:, 1], return_inverse=True)
    row = counts[:, 0].astype(np.int64)
    trained = np.bincount(column[part[row] == 0], minlength=column.max(initial=-1) + 1)
    kept = np.flatnonzero(trained > COMMON * (part == 0).sum())
    place = np.full(len(trained), -1)
    place[kept] = np.arange(len(kept))
    chosen = place[column] >= 0
    matrix = np.zeros((len(part), len(kept)))
    matrix[row[chosen], place[column[chosen]]] = counts[chosen, 2]
    return matrix


def frequent(present: NDArray[np.bool_], part: NDArray[Any]) -> NDArray[np.bool_]:
    """Which columns of [N, D] are present in more than the share COMMON of the training compounds."""
    return np.asarray(present[part == 0].mean(0) > COMMON)


def standardised(parts: list[Doubles]) -> list[NDArray[np.float32]]:
    """Each column with mean 0 and variance 1 over the first part; what is not a number becomes the mean, 0.

    A column that is constant in the first part becomes 0.
    """
    finite = np.where(np.isfinite(parts[0]), parts[0], np.nan)
    mean, deviation = np.nanmean(finite, 0), np.nanstd(finite, 0)
    factor = np.where(deviation > CONSTANT, 1 / np.maximum(deviation, CONSTANT), 0)
    scaled = [(np.where(np.isfinite(part), part, mean) - mean) * factor for part in parts]
    return [part.astype(np.float32) for part in scaled]


def roles(table: DataFrame, fold: Fold) -> NDArray[np.int64]:
    """0, 1 or 2 for each compound: for training, validation or test."""
    sets, folds = table["set"].to_numpy(), table["CVfold"].to_numpy()
    held = sets == "validation" if fold == "leaderboard" else (sets == "training") & (folds == fold)
    return np.where(sets == "test", 2, np.where(held, 1, 0))


def compounds(path: Path) -> DataFrame:
    """DeepTox's table of all compounds: ID, set (training, validation, test), CVfold, and the twelve tasks' labels.

    Raises UserError where it cannot be read or holds another set or label.
    """
    import pandas  # here, so that listing data sets stays quick

    table = read(path, usecols=["ID", "set", "CVfold", *TASKS])
    bad = {"set": ~table["set"].isin(ROLES)}
    for task in TASKS:
        labels = pandas.to_numeric(table[task], errors="coerce")
        bad[task] = table[task].notna() & ~labels.isin([0, 1])
    for name, rows in bad.items():
        if rows.any():
            first = table[rows].iloc[0]
            raise UserError(f"{path} is damaged: {first[name]!r} is no {name} of compound {first['ID']}")
    return table


def read(path: Path, **options: Any) -> DataFrame:
    """The rows of a table, packed or not; raises UserError where it cannot be read."""
    import pandas  # here, so that listing data sets stays quick

    try:
        return pandas.read_csv(path, **options)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a table that can be read: {str(error).splitlines()[0]}") from error


def features(place: files.Place, ids: list[str]) -> tuple[Doubles, molecules.Counts]:
    """`molecules.features` of the compounds, computed once and kept in the data root's .cache."""
    key = "-".join([place.layout.files[0].digest[:12], place.layout.files[-1].digest[:12], str(VERSION)])
    made = cache(lambda: molecules.features(ordered(place, ids)))
    numbers = derived.array(place.root, f"tox21-descriptors-{key}.npy", lambda: made()[0])
    return numbers, derived.array(place.root, f"tox21-ecfp-{key}.npy", lambda: made()[1])


def ordered(place: files.Place, ids: list[str]) -> list[str]:
    """The SMILES of these compounds; raises UserError where one has none."""
    known = {name: smiles for line in lines(place) for smiles, name in [line.split("\t")[:2]]}
    if lacking := [name for name in ids if name not in known]:
        raise UserError(f"data set 'tox21': {len(lacking)} compounds have no SMILES, the first is {lacking[0]}")
    return [known[name] for name in ids]


def lines(place: files.Place) -> Iterator[str]:
    """The lines `SMILES, tab, compound` (and perhaps a label) of all .smiles files, loose or in an archive."""
    for path in [place.path(file.path) for file in place.layout.files[:-1]]:
        if path.suffix == ".smiles":
            yield from path.read_text(encoding="utf-8").splitlines()
            continue
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith(".smiles") and (file := archive.extractfile(member)):
                    yield from file.read().decode().splitlines()
