"""Rooms of named, versioned factories, and the configuration files that belong to them."""

import inspect
import sys
from typing import Any, Literal

import pytest
import yaml
from omegaconf import OmegaConf

from normtables.data import DATASETS
from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS
from normtables.optim import OPTIMIZERS, SCHEDULES
from normtables.places import CONF
from normtables.registry import Registry, check_options, fits
from normtables.tasks import TASKS
from normtables.trackers import TRACKERS

ROOMS = {
    "norm": METHODS,
    "model": MODELS,
    "dataset": DATASETS,
    "task": TASKS,
    "optim": OPTIMIZERS,
    "schedule": SCHEDULES,
    "tracker": TRACKERS,
}
VERSIONED = ("norm", "model", "dataset", "task")
FILES = [(group, path) for group in ROOMS for path in sorted((CONF / group).glob("*.yaml"))]
ENTRIES = [(group, name) for group, room in ROOMS.items() for name in room]


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A room of gadgets: a package of two modules on disk."""
    package = tmp_path / "gadgetroom"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from normtables.registry import Registry\nGADGETS = Registry('gadget', 'gadgetroom')\n"
    )
    (package / "one.py").write_text(
        "from gadgetroom import GADGETS\n@GADGETS.register('tall', version=3)\n"
        "def tall(context, *, size: float = 1.0, kind: str = 'a'):\n    return context, size, kind\n"
    )
    (package / "two.py").write_text(
        "from gadgetroom import GADGETS\n@GADGETS.register('flat')\ndef flat(context):\n    return context\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import gadgetroom

    yield gadgetroom.GADGETS
    for name in [n for n in sys.modules if n.startswith("gadgetroom")]:
        del sys.modules[name]


def refused(call, *parts):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_modules_of_the_room_are_found_when_asked(room):
    assert "gadgetroom.one" not in sys.modules
    assert list(room) == ["flat", "tall"]
    assert len(room) == 2
    assert (room["tall"].version, room["flat"].version) == (3, 1)


def test_an_installed_package_adds_its_own(room, monkeypatch):
    asked = []

    class Point:
        def load(self):
            room.register("plugged")(lambda: None)

    def entry_points(group):
        asked.append(group)
        return [Point()]

    monkeypatch.setattr("normtables.registry.entry_points", entry_points)
    assert "plugged" in room
    assert asked == ["gadgetroom"]


def test_build_passes_context_and_options(room):
    assert room.build({"name": "tall", "version": 3, "size": 2}, "c") == ("c", 2, "a")
    assert room.build({"name": "flat"}, "c") == "c"


def test_a_name_is_taken_once(room):
    with pytest.raises(ValueError, match="gadget 'tall' is registered twice"):
        list(room) and room.register("tall")(print)


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"name": "tal"}, ["no gadget 'tal'", "did you mean 'tall'?", "flat, tall"]),
        ({"name": "tall", "sise": 1}, ["gadget 'tall' has no setting 'sise'", "did you mean 'size'?", "size, kind"]),
        ({"name": "tall", "size": "2"}, ["size='2' should be a number"]),
        ({"name": "tall", "size": True}, ["size=True should be a number"]),
        ({"name": "tall", "size": None}, ["size=None should be a number"]),
        ({"name": "tall", "kind": 2}, ["kind=2 should be text"]),
        ({"name": "tall", "version": 2}, ["gadget 'tall' is version 3 here", "says 2"]),
        ({"name": "tall", "context": 1}, ["no setting 'context'"]),
        ({"size": 1}, ["gadget", "name"]),
    ],
)
def test_mistakes_are_told_in_one_line(room, settings, parts):
    refused(lambda: room.build(settings, "c"), *parts)


def test_a_setting_that_a_file_leaves_out_is_named():
    def needs(*, size: int, kind: str = "a") -> None: ...

    refused(lambda: check_options(needs, {"kind": "b"}, "gadget 'x'"), "gadget 'x'", "size")


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (float, [1, 1.5, -2], ["1", True, None, [1]]),
        (int, [1, 0], [1.5, True, "1"]),
        (bool, [True], [1, "true"]),
        (str, [""], [1, None]),
        (int | None, [None, 3], [2.5, "3"]),
        (float | str, [1, 0.5, "1/m"], [None, True, [1]]),
        (list[int], [[], [1, 2]], [[1.5], 1, (1,), ["a"]]),
        (dict[str, float], [{}, {"a": 1}], [{"a": "b"}, {1: 1}, []]),
        (Literal["a", 1], ["a", 1], ["b", True, 2]),
        (Any, [1, None, "x"], []),
    ],
)
def test_fits(hint, good, bad):
    assert all(fits(value, hint) for value in good)
    assert not any(fits(value, hint) for value in bad)


# the files under conf/


@pytest.mark.parametrize(("group", "path"), FILES, ids=lambda v: getattr(v, "stem", v))
def test_a_file_holds_its_factorys_options_and_version(group, path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings.pop("defaults", None)
    assert settings.pop("name") == path.stem
    entry = ROOMS[group][path.stem]
    assert settings.pop("version", None) == (entry.version if group in VERSIONED else None)
    keywords = [p.name for p in inspect.signature(entry.factory).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert sorted(settings) == sorted(keywords)


@pytest.mark.parametrize(("group", "name"), ENTRIES)
def test_everything_registered_has_a_file(group, name):
    assert (CONF / group / f"{name}.yaml").exists()


@pytest.mark.parametrize(("group", "path"), FILES, ids=lambda v: getattr(v, "stem", v))
def test_the_values_of_a_file_are_of_the_annotated_types(composer, group, path):
    settings = OmegaConf.load(path) if group == "task" else composer.config({group: path.stem})[group]
    options = {k: v for k, v in plain(settings).items() if k not in ("name", "version", "task")}
    check_options(ROOMS[group][path.stem].factory, options, path.name)


@pytest.mark.parametrize("name", METHODS)
def test_defaults_of_a_method_are_those_of_its_file(name):
    """A method built without a file, as in a user's script, is the one that a run gets."""
    settings = yaml.safe_load((CONF / "norm" / f"{name}.yaml").read_text(encoding="utf-8"))
    parameters = inspect.signature(METHODS[name].factory).parameters
    assert {k: v for k, v in settings.items() if k not in ("name", "version")} == {
        k: p.default for k, p in parameters.items()
    }


def plain(cfg):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True)


def test_a_registry_is_a_mapping_of_names():
    assert "bn" in METHODS
    assert "nb" not in METHODS
    assert isinstance(METHODS, Registry)
