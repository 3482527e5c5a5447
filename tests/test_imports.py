"""Which room may import which, and that nothing right of the records loads torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "normtables"

EVERYWHERE = ("errors", "registry", "places", "processes", "__version__")
# room: the rooms and outside packages it may import beside the standard library and those for EVERYWHERE
ROOMS = {
    "errors": set(),
    "registry": set(),
    "places": set(),
    "processes": set(),
    "world": {"torch"},
    "schema": {"omegaconf", "hydra"},
    "config": {"schema", "omegaconf", "hydra"},
    "records": set(),
    "norms": {"world", "torch", "numpy"},
    "models": {"norms", "torch", "torchvision", "numpy", "sklearn", "threadpoolctl"},
    "optim": {"config", "torch"},
    "data": {
        "torch",
        "torchvision",
        "numpy",
        "pandas",
        "scipy",
        "sklearn",
        "matplotlib",
        "PIL",
        "rdkit",
        "h5py",
        "ale_py",
    },
    "tasks": {"world", "data", "norms", "torch", "numpy", "sklearn", "threadpoolctl"},
    "trackers": {"records", "wandb"},
    "training": {
        "config",
        "schema",
        "world",
        "records",
        "norms",
        "models",
        "optim",
        "data",
        "tasks",
        "trackers",
        "torch",
        "omegaconf",
    },
    "tables": {"config", "records", "numpy", "pandas", "scipy", "yaml"},
    "report": {"tables", "records", "pandas", "matplotlib", "jinja2", "yaml"},
}
DOORS = {
    "__init__",
    "__main__",
    "commands",
    "door",
    "forecast",
    "making",
    "pool",
    "progress",
    "slurm",
    "sweep",
    "words",
}


def imported(path):
    """(name, line) of every module that a file imports anywhere, functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            names = [node.module] if node.module != "normtables" else [f"normtables.{a.name}" for a in node.names]
            yield from ((str(name), node.lineno) for name in names)


def strangers(path, room):
    allowed = ROOMS[room] | {room, *EVERYWHERE} | sys.stdlib_module_names
    for name, line in imported(path):
        first, *rest = name.split(".")
        if (rest[0] if first == "normtables" and rest else first) not in allowed:
            yield f"{path.name}:{line} imports {name}"


def room_files(room):
    return [SOURCE / f"{room}.py"] if (SOURCE / f"{room}.py").exists() else sorted((SOURCE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_they_may(room):
    assert room_files(room), f"room {room} is gone"
    assert [s for path in room_files(room) for s in strangers(path, room)] == []


def test_every_module_belongs_to_a_room_or_is_a_door():
    tops = {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert tops - set(ROOMS) <= DOORS


def test_a_stranger_is_noticed(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from normtables.training import run\n    import torch.nn\n    import math\n")
    assert list(strangers(file, "report")) == ["x.py:2 imports normtables.training", "x.py:3 imports torch.nn"]
    file.write_text("from normtables import __version__, config\nimport normtables.tables.plan\n")
    assert list(strangers(file, "report")) == ["x.py:1 imports normtables.config"]


def test_tables_and_report_load_no_torch():
    paths = [p for room in ("config", "records", "tables", "report") for p in room_files(room)]
    names = [".".join(p.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__") for p in paths]
    assert len(names) > 20
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_commands_that_draw_nothing_load_no_matplotlib_and_no_scipy_stats():
    """`plan`, `errata` and `runs` answer in a second or two; each of these takes one."""
    code = "import sys, normtables.report, normtables.tables.claims, normtables.tables.plan\n"
    code += "sys.exit(bool({'matplotlib', 'scipy.stats'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
