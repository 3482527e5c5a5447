"""Checked access to a YAML file: every mistake becomes a UserError that names the file and the key."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from normtables.errors import UserError, nearest


class UniqueLoader(yaml.SafeLoader):
    """PyYAML's safe loader that refuses a key written twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping node as a dict; raises a MarkedYAMLError where a key repeats (merged keys may be overridden)."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!r} appears twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Node:
    """A value of a YAML file and where it stands (`table_03.yaml: claims.T3a`)."""

    value: Any
    where: str

    def error(self, message: str) -> UserError:
        """The mistake `message` at this place."""
        return UserError(f"{self.where}: {message}")

    def items(self) -> Iterator[tuple[str, "Node"]]:
        """Names and values of a mapping; a name that YAML read as a number or truth value must be quoted."""
        if not isinstance(self.value, dict):
            raise self.error(f"should be a mapping, not {self.value!r}")
        for key, value in self.value.items():
            if not isinstance(key, str):
                raise self.error(f"the name {key!r} must be quoted")
            yield key, Node(value, f"{self.where}{'.' if ': ' in self.where else ': '}{key}")

    def fields(self, allowed: Iterable[str], required: Iterable[str] = ()) -> dict[str, "Node"]:
        """A mapping with known keys; raises UserError for an unknown one (with the nearest) and a missing one."""
        allowed, found = list(allowed), dict(self.items())
        for key in found:
            if key not in allowed:
                raise self.error(f"unknown key {key!r}{nearest(key, allowed)}; valid keys: {', '.join(allowed)}")
        for key in required:
            if key not in found:
                raise self.error(f"the key {key!r} is missing")
        return found

    def text(self) -> str:
        """A text."""
        if not isinstance(self.value, str):
            raise self.error(f"should be text, not {self.value!r}")
        return self.value

    def number(self) -> float:
        """A number; `1e-4` without a point is text in YAML, so text that looks like a number says so."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.error(f"should be a number, not {self.value!r}")
        return self.value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.error(f"should be true or false, not {self.value!r}")
        return self.value

    def one_of(self, options: Iterable[str], what: str) -> str:
        """A text out of `options`; raises UserError naming the nearest."""
        options, value = list(options), self.text()
        if value not in options:
            raise self.error(f"there is no {what} {value!r}{nearest(value, options)}; there are: {', '.join(options)}")
        return value

    def list(self) -> list["Node"]:
        """The values of a list that is not empty."""
        if not isinstance(self.value, list) or not self.value:
            raise self.error(f"should be a list, not {self.value!r}")
        return [Node(value, f"{self.where}[{i}]") for i, value in enumerate(self.value, 1)]

    def many_of(self, options: Iterable[str], what: str) -> tuple[str, ...]:
        """A list of texts out of `options`."""
        options = [*options]
        return tuple(node.one_of(options, what) for node in self.list())


def read(path: Path) -> Node:
    """The content of a YAML file; UserError with the line where it cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            return Node(yaml.load(file, UniqueLoader), path.name)
    except OSError as error:
        raise UserError(f"cannot read the table file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path.name}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path.name}: not valid YAML: {str(error).splitlines()[0]}") from error
