"""Tables of numbers and categories as tensors: KDD Cup 1999 (network intrusion)."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from normtables.data import DATASETS, Dataset, derived, files, splits
from normtables.data.files import File, Layout, Source

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = NDArray[np.float32]

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/kddcup99-mld"
KDD_ARCHIVE = "http://kdd.ics.uci.edu/databases/kddcup99"
TRAIN, TEST = "kddcup.data_10_percent.gz", "corrected.gz"
KDD99 = tuple(
    File(name, size, md5, (f"{UCI}/{name}", f"{KDD_ARCHIVE}/{name}"))
    for name, size, md5 in (
        (TRAIN, 2_144_903, "c421989ff187d340c1265ac3080a3229"),
        (TEST, 1_409_035, "eda94feeebfb21637338f599c1bf18be"),
    )
)
files.SOURCES["kdd99"] = Source(
    layouts=(Layout("kdd99", KDD99),),
    download=sum(file.bytes for file in KDD99),
    licence="S. Stolfo et al., UCI machine learning repository; CC BY 4.0",
)
PARSER = 1  # part of the cached file's name; raise it when `parsed` changes what it stores

CLASSES = ("normal", "dos", "probe", "r2l", "u2r")
ATTACKS = {  # the contest's classes; with them its test file has 60,593 / 229,853 / 4,166 / 16,189 / 228 rows
    "normal": "normal",
    "dos": "back land neptune pod smurf teardrop apache2 mailbomb processtable udpstorm",
    "probe": "ipsweep nmap portsweep satan mscan saint",
    "r2l": "ftp_write guess_passwd imap multihop phf spy warezclient warezmaster"
    " named sendmail snmpgetattack snmpguess worm xlock xsnoop",
    "u2r": "buffer_overflow loadmodule perl rootkit httptunnel ps sqlattack xterm",
}
LABELS = {f"{attack}.": CLASSES.index(group) for group, attacks in ATTACKS.items() for attack in attacks.split()}

COLUMNS = """
    duration protocol_type service flag src_bytes dst_bytes land wrong_fragment urgent hot num_failed_logins logged_in
    num_compromised root_shell su_attempted num_root num_file_creations num_shells num_access_files num_outbound_cmds
    is_host_login is_guest_login count srv_count serror_rate srv_serror_rate rerror_rate srv_rerror_rate same_srv_rate
    diff_srv_rate srv_diff_host_rate dst_host_count dst_host_srv_count dst_host_same_srv_rate dst_host_diff_srv_rate
    dst_host_same_src_port_rate dst_host_srv_diff_host_rate dst_host_serror_rate dst_host_srv_serror_rate
    dst_host_rerror_rate dst_host_srv_rerror_rate label""".split()  # noqa: SIM905  (kddcup.names)
COUNTS = """
    duration src_bytes dst_bytes wrong_fragment urgent hot num_failed_logins num_compromised num_root
    num_file_creations num_shells num_access_files num_outbound_cmds count srv_count dst_host_count
    dst_host_srv_count""".split()  # noqa: SIM905  (seconds, bytes, events: no upper bound, a few huge values)
CATEGORIES = ["protocol_type", "service", "flag"]
NUMBERS = [name for name in COLUMNS[:-1] if name not in CATEGORIES]


@dataclass(frozen=True)
class Table:
    """Parsed rows: numbers float32 [N, F], codes int16 [N, C] (-1: not in training), targets int8 [N]."""

    numbers: Floats
    codes: NDArray[np.int16]
    targets: NDArray[np.int8]

    def rows(self, indices: splits.Indices) -> Table:
        """The table of these rows."""
        return Table(self.numbers[indices], self.codes[indices], self.targets[indices])


@DATASETS.register("kdd99", version=1)
def kdd99(
    root: Path,
    seed: int,
    *,
    valid: int = 10_000,
    scale: Literal["zscore", "log"] = "zscore",
    train: int | None = None,
) -> Dataset:
    """KDD Cup 1999: the 10 % training file and the corrected test file, [N, 118] (38 numbers, 80 one-hot)."""
    whole, test, sizes = parsed(files.locate("kdd99", root))
    rng = splits.generator(seed)
    kept, held = splits.drawn(len(whole.targets), valid, "valid", rng)
    if train is not None:
        kept = kept[splits.balanced(whole.targets[kept], train, rng)]
    tables = [whole.rows(kept), whole.rows(held), test]
    matrices = [features(table, sizes) for table in tables]
    scale_numbers([matrix[:, : len(NUMBERS)] for matrix in matrices], COUNTS if scale == "log" else [])
    return splits.dataset([(m, t.targets) for m, t in zip(matrices, tables)], classes=len(CLASSES))


def features(table: Table, sizes: list[int]) -> Floats:
    """The numbers, then one-hot columns of each category (all zero for one that training lacks)."""
    width = table.numbers.shape[1]
    matrix = np.zeros((len(table.targets), width + sum(sizes)), np.float32)
    matrix[:, :width] = table.numbers
    for codes, start in zip(table.codes.T, width + np.cumsum([0, *sizes])):
        known = np.flatnonzero(codes >= 0)
        matrix[known, start + codes[known]] = 1
    return matrix


def scale_numbers(parts: list[Floats], counts: list[str]) -> None:
    """In place: log(1 + x) of the columns `counts`, then mean 0, variance 1 of each column over the first part.

    A column that is constant there becomes 0 in all parts: nothing can be learned about it.
    """
    for column, name in enumerate(NUMBERS):
        values = [part[:, column] for part in parts]
        if name in counts:
            values = [np.log1p(rows) for rows in values]
        mean, deviation = values[0].mean(dtype=np.float64), values[0].std(dtype=np.float64)
        factor = 1 / deviation if deviation > 0 else 0
        for part, rows in zip(parts, values):
            part[:, column] = (rows - mean) * factor


def parsed(place: files.Place) -> tuple[Table, Table, list[int]]:
    """Training and test table and the number of categories of each categorical column; kept in the cache folder."""
    key = "-".join(file.digest[:12] for file in place.layout.files)
    name = f"kdd99-{key}-{PARSER}.npz"
    for folder in derived.folders(place.root):
        try:
            with np.load(folder / name) as kept:
                return _tables(dict(kept))
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            continue  # not there, or broken: read the originals again
    arrays = _arrays(read(place.path(TRAIN)), read(place.path(TEST)))

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    derived.store(place.root, name, write)
    return _tables(arrays)


def read(path: Path) -> DataFrame:
    """The rows of a KDD Cup 1999 file."""
    import pandas  # here, so that listing data sets stays quick

    types = dict.fromkeys(NUMBERS, "float32") | dict.fromkeys([*CATEGORIES, "label"], "category")
    return pandas.read_csv(path, header=None, names=COLUMNS, dtype=types)


def _arrays(train: DataFrame, test: DataFrame) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"sizes": np.array([len(train[name].cat.categories) for name in CATEGORIES])}
    for part, frame in (("train", train), ("test", test)):
        codes = [frame[name].cat.set_categories(train[name].cat.categories).cat.codes for name in CATEGORIES]
        arrays[f"{part}_numbers"] = frame[NUMBERS].to_numpy(np.float32)
        arrays[f"{part}_codes"] = np.stack(codes, 1).astype(np.int16)
        arrays[f"{part}_targets"] = frame["label"].map(LABELS).to_numpy(np.int8)
    return arrays


def _tables(arrays: dict[str, NDArray[Any]]) -> tuple[Table, Table, list[int]]:
    train, test = (
        Table(*(arrays[f"{part}_{kind}"] for kind in ("numbers", "codes", "targets"))) for part in ("train", "test")
    )
    return train, test, arrays["sizes"].tolist()
