"""Which files each data set needs, and whether they are there and whole (standard library only)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from normtables.data import DATASETS, derived
from normtables.data.folders import Group
from normtables.errors import UserError, lookup
from normtables.places import expanded

STAMPED = 32_000_000  # bytes: bigger files are hashed once, smaller ones in every process (0.1 s)
OTHER_FOLDER = "point data.root=FOLDER or NORMTABLES_DATA at a copy"


@dataclass(frozen=True)
class File:
    """A file inside a layout's folder: bytes and digest (md5 or sha256 by its length) of its content.

    The content of an .npy file is its data without the header, which NumPy's versions write differently. about: its
    bytes are not known exactly, the digest alone decides.
    """

    path: str
    bytes: int
    digest: str
    urls: tuple[str, ...] = ()
    about: bool = False


@dataclass(frozen=True)
class Layout:
    """One accepted way to lay a data set's files out: a folder under the data root, files by name or as groups.

    Of a family of data sets, each part has groups of its own.
    """

    folder: str
    files: tuple[File, ...] = ()
    groups: tuple[Group, ...] = ()
    parts: Mapping[str, tuple[Group, ...]] = field(default_factory=dict)

    def needed(self, part: str) -> tuple[Group, ...]:
        """The groups that a part needs, those of all parts for ""."""
        chosen = [self.parts[part]] if part else self.parts.values()
        return (*self.groups, *(group for groups in chosen for group in groups))


@dataclass(frozen=True)
class Source:
    """Where a data set's files come from; `fetch` fills the first layout from the archive or the files' URLs.

    The archive is unpacked in the folder `into` of the data root. Where nothing can be loaded without an account,
    `unpack(folder)` fills the layout from what the user has put there. Of a family, the option `by` names the part;
    the parts `embedded` need no files. The first use keeps up to `kept` bytes in the data root's .cache: decoded or
    prepared images. A set that has no files of its own is made `of` others, which its options in `by` name.
    """

    layouts: tuple[Layout, ...]
    download: int  # bytes
    licence: str
    archive: File | None = None  # holds the first layout's folder; digest "" where its bytes are not stable
    into: str = ""
    unpack: Callable[[Path], None] | None = None
    kept: int = 0
    by: str = ""  # "option", or "option option"
    embedded: tuple[str, ...] = ()
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A layout found whole under a data root."""

    root: Path
    layout: Layout

    def path(self, name: str) -> Path:
        """The path of the layout's file `name`."""
        return self.root / self.layout.folder / name


SOURCES: dict[str, Source] = {}
"""Filled by the modules that read the files; a data set without an entry is embedded."""

_whole: set[str] = set()  # stamps of the files that this process has hashed


class FilesError(UserError):
    """Why files cannot be used; `damaged` tells a broken file from a missing one."""

    def __init__(self, text: str, damaged: bool) -> None:
        super().__init__(text)
        self.damaged = damaged


def source(name: str) -> Source | None:
    """The source of a data set or of a network's weights, None for an embedded set; UserError for an unknown name."""
    lookup(dict.fromkeys(names()), name, DATASETS.what)
    return SOURCES.get(name)


def names() -> list[str]:
    """All data sets, and the weights that come from files as they do."""
    return sorted({*DATASETS, *SOURCES})


def locate(name: str, root: Path, part: str = "", only: Collection[str] = ()) -> Place:
    """The first layout of the data set, or of one part of a family, under `root` whose files are all there and whole.

    only: the files that are wanted, where not all are. Raises UserError (a FilesError) that names the file, what is
    wrong with it and the command that helps.
    """
    found = source(name)
    if found is None or found.of:
        what = f"made of {', '.join(found.of)}" if found else "embedded"
        raise UserError(f"data set {name!r} is {what}: it has no files")
    root = expanded(root)
    layouts = [_limited(layout, only) if only else layout for layout in found.layouts]
    try:
        _check_root(name, root)
        problems = [(layout, _problem(root, layout, part)) for layout in layouts]
    except OSError as error:
        raise FilesError(f"data set {name!r}: cannot read {error.filename}: {error.strerror}", damaged=True) from error
    for layout, problem in problems:
        if problem is None:
            return Place(root, layout)
    begun = [problem for layout, problem in problems if problem and _begun(root, layout, part)]
    if begun:
        text, damaged = begun[0]
        raise FilesError(f"data set {name!r}: {text}; {_help(name)}", damaged)
    looked = " and ".join(dict.fromkeys(str(root / layout.folder) for layout in found.layouts))
    raise FilesError(f"data set {name!r} is not there: looked in {looked}; {_help(name)}", damaged=False)


def _limited(layout: Layout, only: Collection[str]) -> Layout:
    return replace(layout, files=tuple(file for file in layout.files if file.path in only))


def needs(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The data set, and the part where it is a family, or those it is made of, that settings name."""
    name = str(settings["name"])
    found = source(name)
    chosen = [str(settings[key]) for key in found.by.split()] if found else []
    return [(one, "") for one in chosen] if found and found.of else [(name, "".join(chosen))]


def state(name: str, root: Path, part: str = "") -> str:
    """embedded, present, partial (a family of which only some parts are there), missing or damaged."""
    found = source(name)
    if found is None or part in found.embedded:
        return "embedded"
    if found.of:
        states = {state(one, root) for one in found.of}
        return states.pop() if len(states) == 1 else "partial"
    try:
        locate(name, root, part)
    except FilesError as problem:
        return _lacking(found, root, problem)
    return "present"


def _lacking(found: Source, root: Path, problem: FilesError) -> str:
    """The state of a data set with this problem."""
    if problem.damaged:
        return "damaged"
    parts = [(layout, part) for layout in found.layouts for part in layout.parts]
    return "partial" if any(_problem(expanded(root), *pair) is None for pair in parts) else "missing"


def download_bytes(name: str, root: Path, part: str = "") -> int:
    """Bytes that `normtables data fetch` would load: 0 for a data set (or a part) that is embedded or present."""
    found = source(name)
    return 0 if found is None or found.unpack or state(name, root, part) in ("embedded", "present") else found.download


def kept_bytes(name: str) -> int:
    """Bytes that the first use of a data set may keep in the data root's .cache."""
    found = source(name)
    return found.kept if found else 0


def listing(root: Path) -> list[dict[str, Any]]:
    """One row per data set and file of weights: name, state, bytes to download, where it is, how to get it, licence."""
    rows = []
    for name in names():
        row = {"name": name, "state": "embedded", "bytes": 0, "where": "", "how": "", "licence": ""}
        if found := source(name):
            row |= {"state": "present", "bytes": found.download, "licence": found.licence}
            row |= _found(name, found, root)
        rows.append(row)
    return rows


def _found(name: str, found: Source, root: Path) -> dict[str, str]:
    """Of a row of the listing: where the data set is, or its state and how to get it."""
    if found.of:
        return {"state": state(name, root), "how": f"made of {', '.join(found.of)}: fetch those"}
    try:
        place = locate(name, root)
        return {"where": str(place.root / place.layout.folder)}
    except FilesError as problem:
        return {"state": _lacking(found, root, problem), "how": str(problem)}


def _check_root(name: str, root: Path) -> None:
    if not root.exists():
        raise FilesError(f"data set {name!r}: the data root {root} does not exist; {_help(name)}", damaged=False)
    if not root.is_dir():
        raise FilesError(f"data set {name!r}: the data root {root} is not a folder; {_help(name)}", damaged=False)
    if not any(entry.name != ".cache" for entry in root.iterdir()):
        raise FilesError(f"data set {name!r}: the data root {root} is empty; {_help(name)}", damaged=False)


def _help(name: str) -> str:
    return f"run `normtables data fetch {name}`, or {OTHER_FOLDER}"


def _begun(root: Path, layout: Layout, part: str) -> bool:
    return any(path.exists() for path in paths(root / layout.folder, layout, part))


def paths(base: Path, layout: Layout, part: str = "") -> Iterator[Path]:
    """Where a layout's files lie; those of its groups are the ones that are there."""
    yield from (base / file.path for file in layout.files)
    for group in layout.needed(part):
        yield from group.found(base)


def _problem(root: Path, layout: Layout, part: str) -> tuple[str, bool] | None:
    """What is wrong with the first bad file or group, a damaged one before a missing one."""
    base = root / layout.folder
    named = [(file, base / file.path) for file in layout.files]
    missing = [path for _, path in named if not path.is_file()]
    for file, path in named:
        if path not in missing and (damage := _damage(root, path, file)):
            return damage, True
    flaws = [flaw for group in layout.needed(part) if (flaw := group.flaw(root, base))]
    absent = [(f"{path} is missing", False) for path in missing]
    return next((flaw for flaw in flaws if flaw[1]), (*absent, *flaws, None)[0])


def _damage(root: Path, path: Path, file: File) -> str:
    size = path.stat().st_size - content_offset(path)
    if size != file.bytes and not file.about:
        cut = " (truncated)" if size < file.bytes else ""
        return f"{path} is damaged: its content has {max(size, 0):,} bytes{cut}, it should have {file.bytes:,}"
    kind = "md5" if len(file.digest) == 32 else "sha256"
    stamp = _stamp(path, file)
    if stamp in _whole or (size > STAMPED and derived.exists(root, stamp)):
        return ""
    if (digest := content_digest(path, kind)) != file.digest:
        return f"{path} is damaged: its content has {kind} {digest}, it should have {file.digest}"
    _whole.add(stamp)
    if size > STAMPED:
        derived.store(root, stamp, lambda target: target.touch())
    return ""


def _stamp(path: Path, file: File) -> str:
    """The name of an empty file that stands for: this file, as it lies there, has this digest."""
    facts = path.stat()
    key = f"{path.absolute()} {facts.st_size} {facts.st_mtime_ns} {file.digest}"
    return hashlib.sha256(key.encode()).hexdigest()[:24] + ".whole"


def content_offset(path: Path) -> int:
    """Where a file's content begins: 0, behind the header in an .npy file."""
    if path.suffix != ".npy":
        return 0
    with path.open("rb") as file:
        head = file.read(12)
    if head[:6] != b"\x93NUMPY":
        return 0
    wide = head[6] > 1  # format versions 2 and 3 give the header's length in 4 bytes
    return (12 if wide else 10) + int.from_bytes(head[8 : 12 if wide else 10], "little")


def content_digest(path: Path, kind: str) -> str:
    """The md5 or sha256 of a file's content in hex."""
    with path.open("rb") as file:
        file.seek(content_offset(path))
        return hashlib.file_digest(file, kind).hexdigest()
