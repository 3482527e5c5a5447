"""One registry per room: names to versioned factories, found by scanning the room's modules and installed plug-ins."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from normtables.errors import UserError, lookup, nearest

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered factory and the version of the numbers it makes."""

    factory: Callable[..., T]
    version: int


class Registry(Mapping[str, Entry[T]]):
    """Names to factories of one kind; `room` is the package whose modules register them.

    Installed packages add their own through an entry point in the group `<room>` that names a module to import.
    """

    def __init__(self, what: str, room: str) -> None:
        self.what, self.room = what, room
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False

    def register(self, name: str, version: int = 1) -> Callable[[F], F]:
        """Decorator that files a factory under `name`; raise `version` when a fix changes its numbers."""

        def file(factory: F) -> F:
            if name in self._entries:
                raise ValueError(f"{self.what} {name!r} is registered twice")
            self._entries[name] = Entry(factory, version)
            return factory

        return file

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            package = importlib.import_module(self.room)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.room}.{module.name}")
            for point in entry_points(group=self.room):
                point.load()

    def __getitem__(self, name: str) -> Entry[T]:
        self._load()
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def checked(self, settings: Mapping[str, Any]) -> tuple[Entry[T], dict[str, Any]]:
        """The entry that `settings["name"]` names, and its options.

        Raises UserError for an unknown name, an unknown or ill-typed setting, and a version that is not the code's.
        """
        options = dict(settings)
        if "name" not in options:
            raise UserError(f"the settings of a {self.what} lack its name; there are: {', '.join(self)}")
        name = options.pop("name")
        entry = lookup(self, name, self.what)
        version = options.pop("version", entry.version)
        if version != entry.version:
            raise UserError(f"{self.what} {name!r} is version {entry.version} here, the configuration says {version}")
        check_options(entry.factory, options, f"{self.what} {name!r}")
        return entry, options

    def build(self, settings: Mapping[str, Any], *context: Any) -> T:
        """Call the factory that `settings["name"]` names with `context` and its options; UserError as `checked`."""
        entry, options = self.checked(settings)
        return entry.factory(*context, **options)


def check_options(factory: Callable[..., Any], options: Mapping[str, Any], what: str) -> None:
    """Raise UserError where `options` names a keyword the factory lacks, a value of another type, or lacks one."""
    hints = typing.get_type_hints(factory)
    parameters = [p for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY]
    keywords = [p.name for p in parameters]
    for key, value in options.items():
        if key not in keywords:
            raise UserError(f"{what} has no setting {key!r}{nearest(key, keywords)}; it has: {', '.join(keywords)}")
        if not fits(value, hints[key]):
            raise UserError(f"{what}: {key}={value!r} should be {spelled(hints[key])}")
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in options]
    if missing:
        raise UserError(f"{what} lacks the settings {', '.join(missing)}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of the annotated type; an int is a float, a bool is not."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in args)
    if args and origin not in (list, dict, tuple):
        return any(fits(value, a) for a in args)
    if origin is list:
        return isinstance(value, list) and all(fits(v, args[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, args[0]) and fits(v, args[1]) for k, v in value.items())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if hint is type(None) else isinstance(value, hint)


def spelled(hint: Any) -> str:
    """An annotated type in a user's words."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(a) for a in args)
    if args and origin not in (list, dict, tuple):
        return " or ".join(spelled(a) for a in args)
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(hint, str(hint).replace("typing.", ""))
