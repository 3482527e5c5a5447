"""Every data set has a configuration that its factory accepts, and the room stays free of torch until one is built."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from normtables.data import DATASETS, files, load
from normtables.data.folders import Folder
from normtables.errors import UserError
from normtables.registry import check_options

CONF = Path(__file__).resolve().parents[2] / "conf"
YAMLS = sorted((CONF / "dataset").glob("*.yaml"))


def test_every_set_has_a_file():
    assert [path.stem for path in YAMLS] == list(DATASETS)


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.stem)
def test_the_file_holds_the_factorys_settings(path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    task, own = settings.pop("defaults")
    assert own == "_self_"
    assert (CONF / "task" / f"{task['/task@task']}.yaml").exists()
    entry = DATASETS[settings["name"]]
    assert settings.pop("name") == path.stem
    assert settings.pop("version") == entry.version
    check_options(entry.factory, settings, path.name)
    keywords = {
        n: p.default for n, p in inspect.signature(entry.factory).parameters.items() if p.kind is p.KEYWORD_ONLY
    }
    derived = {name: "" for name, value in settings.items() if str(value).startswith("${")}  # from other settings
    assert settings | derived == keywords


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.stem)
def test_hydra_composes_it_with_its_task(path):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = compose(overrides=[f"+dataset={path.stem}"])
    assert found.dataset.name == path.stem
    assert f"{found.dataset.task.name}.yaml" in {p.name for p in (CONF / "task").iterdir()}
    assert "task" not in found


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "digit"}, "no data set 'digit'; did you mean 'digits'"),
        ({"name": "digits", "vald": 3}, "has no setting 'vald'; did you mean 'valid'"),
        ({"name": "digits", "valid": "3"}, "valid='3' should be a whole number"),
        ({"name": "digits", "scale": "units"}, "scale='units' should be one of unit, standard"),
        ({"name": "digits", "prep": "zca"}, "prep='zca' should be one of none, global, mean, gcn, gcn_zca, gcn_lcn"),
        ({"name": "digits", "prep": "gcn", "scale": "standard"}, "dataset.scale=standard: dataset.prep=gcn sets the"),
        ({"name": "digits", "size": 28}, "dataset.size=28: choose one of 8, 16, 32"),
        ({"name": "digit_fonts", "size": 7}, "dataset.size=7: choose one of 8, 16, 32"),
        ({"name": "imagenet", "size": 16}, "dataset.size=16 should lie between 32 and 256"),
        ({"name": "digits", "valid": 0}, "dataset.valid=0 should lie between 1 and 1496"),
        ({"name": "digits", "test": 1797}, "dataset.test=1797 should lie between 1 and 1796"),
        ({"name": "digits", "train": 1198}, "dataset.train=1198 should lie between 1 and 1197"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, says, tmp_path):
    with pytest.raises(UserError) as error:
        load(settings, tmp_path, 0)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_listing_loads_no_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from normtables.data import files;"
        "files.listing(Path(sys.argv[1])); sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_every_file_has_a_digest_and_a_way_to_get_it():
    for source in map(files.SOURCES.get, files.SOURCES):
        if source.of:
            assert not source.layouts
            assert set(source.of) <= set(files.SOURCES)
            continue
        for layout in source.layouts:
            assert all(len(file.digest) in (32, 64) and file.bytes > 0 for file in layout.files)
            assert layout.files or layout.needed("")
            counted = [group for group in layout.needed("") if isinstance(group, Folder)]
            assert all(len(group.digest) in (0, 64) and group.files > 0 for group in counted)
        assert source.licence
        assert source.archive or source.unpack or all(file.urls for file in source.layouts[0].files)
