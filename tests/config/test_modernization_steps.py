"""Modernization steps: each listed one must hold in the composed arch and must change it."""

import pytest

from minuteloop import compose
from minuteloop.validation import ConfigError


def test_steps_that_undo_each_other_are_rejected(tmp_path):
    (tmp_path / "modernization").mkdir()
    (tmp_path / "modernization" / "silent.yaml").write_text("# @package arch\nblock: {act: relu}\n")
    expected = r"modernization=\[gelu\]: sets arch\.block\.act=gelu, which ends as relu because of silent; remove one"
    with pytest.raises(ConfigError, match=expected):
        compose(["arch=resnet", "modernization=[gelu,silent]"], config_dir=str(tmp_path))


def test_override_that_undoes_a_listed_step_is_rejected():
    with pytest.raises(ConfigError, match=r"modernization=\[gelu\]: sets arch\.block\.act=gelu, which ends as relu"):
        compose(["arch=resnet", "modernization=[gelu]", "arch.block.act=relu"])


@pytest.mark.parametrize(
    ("arch", "step"),
    [("convnext", "gelu"), ("convnext_t", "gelu"), ("resnet18", "depthwise"), ("resnet50", "kernel_3")],
)
def test_step_that_changes_nothing_is_rejected(arch, step):
    with pytest.raises(ConfigError, match=rf"modernization=\[{step}\]: changes nothing here"):
        compose([f"arch={arch}", f"modernization=[{step}]"])


def test_step_listed_twice_is_rejected():
    compose(["arch=resnet", "modernization=[fewer_activations,gelu]"])
    with pytest.raises(ConfigError, match=r"modernization=\[gelu\]: changes nothing"):
        compose(["arch=resnet", "modernization=[gelu,gelu]"])


def test_steps_do_not_apply_to_timm():
    with pytest.raises(ConfigError, match=r"modernization=\[gelu\]: steps do not apply to arch=timm"):
        compose(["arch=timm", "arch.name=resnet18", "modernization=[gelu]"])


def test_listed_step_that_replaces_a_step_of_the_arch_is_recorded():
    arch = compose(["arch=convnext", "modernization=[batchnorm]"]).arch
    assert arch.block.norm == "bn"
    assert "layernorm" not in arch.applied and arch.applied["batchnorm"] == "Ioffe 2015"
    assert arch.replaced == {"layernorm": "batchnorm"}


def test_override_that_replaces_a_step_of_the_arch_is_recorded():
    assert compose(["arch=convnext", "arch.block.norm=bn"]).arch.replaced == {"layernorm": "arch.block.norm=bn"}
