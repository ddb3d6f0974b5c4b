"""Files are parsed once in a process, and a config never shows what another one did to them."""

import os

import omegaconf
import pytest

from minuteloop.config.compose import compose
from minuteloop.validation import ConfigError

STEP = "# @package arch\nblock: {{ act: {} }}\napplied: {{ mine: a test }}\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "modernization").mkdir()
    return tmp_path


def test_no_file_is_parsed_for_a_second_config(monkeypatch):
    compose(["arch=convnext", "recipe=deit"])
    parsed, load = [], omegaconf.OmegaConf.load
    monkeypatch.setattr(omegaconf.OmegaConf, "load", lambda file: parsed.append(file) or load(file))
    compose(["arch=convnext", "recipe=deit", "recipe.batch_size=64"])
    assert parsed == []


def test_a_file_that_changes_or_goes_is_read_again(folder):
    file = folder / "modernization/mine.yaml"
    for act in ("gelu", "silu"):  # of equal size, within the resolution of a file system's times
        file.write_text(STEP.format(act))
        os.utime(file, ns=(0, 0 if act == "gelu" else 1))
        assert compose(["arch=resnet18", "modernization=[mine]"], config_dir=str(folder)).arch.block.act == act
    file.unlink()
    with pytest.raises(ConfigError, match="modernization=mine"):
        compose(["arch=resnet18", "modernization=[mine]"], config_dir=str(folder))


def test_files_of_two_folders_are_not_mixed(tmp_path):
    for name, act in (("one", "gelu"), ("two", "silu")):
        (tmp_path / name / "modernization").mkdir(parents=True)
        (tmp_path / name / "modernization/mine.yaml").write_text(STEP.format(act))
    for name, act in (("one", "gelu"), ("two", "silu"), ("one", "gelu")):
        config = compose(["arch=resnet18", "modernization=[mine]"], config_dir=str(tmp_path / name))
        assert config.arch.block.act == act


def test_overrides_of_one_config_do_not_reach_the_next():
    plain = compose(["arch=resnet18", "recipe=deit"])
    changed = compose(["arch=resnet18", "recipe=deit", "recipe.batch.mixup.alpha=0.5", "~recipe.batch.cutmix"])
    assert "cutmix" not in changed.recipe.batch and changed.recipe.batch["mixup"]["alpha"] == 0.5
    assert compose(["arch=resnet18", "recipe=deit"]) == plain
