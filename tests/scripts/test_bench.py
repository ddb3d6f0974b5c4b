"""The benches at their smallest: what their rows hold, not how fast anything is."""

import shutil
from argparse import Namespace

import pytest
import torch
from benches import archs as bench_archs
from benches import forms as bench_forms
from benches import ingredients as bench_ingredients
from benches import step as bench_step

from minuteloop import compose, hardware
from minuteloop.nets import cpu_kernels

TINY = ["arch=resnet18", "size.width=0.125", "size.depth=0.1", "data=sample", "recipe.batch_size=16", "threads=1"]


@pytest.fixture
def bench(run_script):
    """Return bench(NAME, *WORDS): the rows of scripts/bench.py, whose common columns are checked."""

    def run(*words: str) -> list[dict]:
        rows = run_script("bench", *words)
        for row in rows:
            assert row["bench"] == words[0] and row["overrides"] == [word for word in words if "=" in word]
            assert row["host"]["cores"] >= 1 and row["versions"]["torch"] == torch.__version__.partition("+")[0]
        return rows

    return run


def resolved(*overrides: str):
    return hardware.resolve_auto(compose([*overrides, "precision=fp32", "device=cpu", "threads=1"]))


def test_overhead_compares_the_trainer_with_a_bare_loop(bench):
    rows = bench("overhead", "--rounds", "1", "--steps", "3", *TINY)
    assert [row["arm"] for row in rows] == ["trainer", "bare"]
    trainer, bare = (row["ms_a_step"]["median"] for row in rows)
    assert trainer > 0 and rows[1]["of_trainer"]["median"] == pytest.approx(bare / trainer, rel=1e-3)


def test_trainer_and_bare_loop_end_with_the_same_weights(monkeypatch):
    modules, make = [], bench_step.Bench.module
    monkeypatch.setattr(bench_step.Bench, "module", lambda *args: modules.append(make(*args)) or modules[-1])
    bench = bench_step.Bench(resolved(*TINY, "recipe.clip_grad=0.1", "ingredient=[]"), steps=2)
    with_trainer, bare = bench.with_trainer(), bench.bare(bench.own_batches, False, True)
    assert with_trainer() > 0 < bare()
    ours, by_hand = (module.net.state_dict() for module in modules)
    assert all(torch.equal(ours[name], by_hand[name]) for name in ours)


def test_stock_compares_our_layers_with_torchs(bench):
    rows = bench("stock", "--rounds", "1", "--steps", "2", *TINY, "arch=convnext")
    assert [row["arm"] for row in rows][::5] == ["ours", "stock, all"] and len(rows) == 7
    times = [row["ms_a_step"]["median"] for row in rows]
    assert [row["of_ours"]["median"] for row in rows] == pytest.approx([time / times[0] for time in times], rel=1e-3)


@pytest.mark.parametrize(
    "layer",
    [
        cpu_kernels.DepthwiseConv(12, 12, 7, padding=3, groups=12),
        cpu_kernels.PatchConv(12, 12, 2, 2),
        cpu_kernels.LayerNorm(12),
        cpu_kernels.GELU(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_stock_layers_compute_the_same(layer):
    maps = torch.randn(2, 12, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bench_step.STOCK[type(layer)](layer, maps), layer(maps), atol=1e-5, rtol=1e-5)


def test_implementations_of_an_operation_compute_the_same():
    torch.manual_seed(0)
    maps = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    depthwise, gammas = bench_forms.depthwise(8, 4, 3), torch.linspace(0.5, 2, 8)
    del depthwise["dense"]
    assert set(depthwise) == {"plain", "ours", "shifted adds", "matrix", "unfold"}
    for outputs in (
        [function(maps, depthwise["plain"][1]) for function, _ in depthwise.values()],
        [function(maps, gammas) for function, _ in bench_forms.layer_norms(8).values()],
        [function(maps) for name, (function,) in bench_forms.gelus().items() if name != "tanh"],
    ):
        for output in outputs[1:]:
            torch.testing.assert_close(output, outputs[0], atol=1e-5, rtol=1e-5)


def test_forms_time_forward_and_each_backward(monkeypatch):
    monkeypatch.setattr(bench_forms, "SHAPES", [(8, 4)])
    rows = list(bench_forms.forms(resolved("data=sample", "recipe.batch_size=2"), Namespace(rounds=1)))
    assert [row["what"] for row in rows] == 12 * ["depthwise"] + 3 * ["layer norm"] + 3 * ["GELU"]
    assert [row["kernel"] for row in rows] == 6 * [3] + 6 * [7] + 6 * [1]
    for row in rows:
        assert row["forward_ms"]["median"] > 0 < row["backward_maps_ms"]["median"] < row["all_ms"]["median"]
        assert ("backward_weights_ms" in row) == (row["what"] != "GELU")


EACH_SLOT = [
    "adamw",
    "mixup",
    "crop",
    "ema",
    "freeze",
    "drop_path",
    "cosine",
    "cross_entropy",
    "alternating_flip",
    "tta",
]


@pytest.mark.parametrize("names", [EACH_SLOT, pytest.param(["*"], marks=pytest.mark.exhaustive)], ids=["slots", "all"])
def test_ingredients_cost_milliseconds_or_are_refused(names, monkeypatch, tmp_path):
    source = bench_ingredients.CONF / "ingredient"
    (tmp_path / "ingredient").mkdir()
    for file in (file for name in names for file in source.glob(f"{name}.yaml")):
        shutil.copy(file, tmp_path / "ingredient")
    monkeypatch.setattr(bench_ingredients, "CONF", tmp_path)
    monkeypatch.setattr(bench_ingredients, "CALLS", 1)
    overrides = [*TINY, "device=cpu"]
    rows = list(bench_ingredients.ingredients(resolved(*overrides), Namespace(overrides=overrides, rounds=1)))
    files = {file.stem for file in bench_ingredients.CONF.glob("ingredient/*.yaml")}
    assert {row["arm"] for row in rows} == files - {"tta", "progressive"}
    refused = {row["arm"]: row["refused"] for row in rows if "refused" in row}
    assert set(refused) == {"freeze"} and "stem.0.bias" in refused["freeze"]
    costs = {row["arm"]: row["milliseconds_a_step"]["median"] for row in rows if "refused" not in row}
    regularizers = {name for name in costs if bench_ingredients._slot(name).startswith("recipe.regularizers")}
    assert regularizers == {"batch_norm", "drop_path", "dropout", "ghost_batch_norm"} & files
    assert all(cost > 0 for name, cost in costs.items() if name not in regularizers)


def test_archs_have_params_macs_and_speed(tmp_path, monkeypatch):
    (tmp_path / "arch").mkdir()
    for name in ("resnet20", "vgg16"):
        (tmp_path / "arch" / f"{name}.yaml").touch()
    monkeypatch.setattr(bench_archs, "CONF", tmp_path)
    overrides = TINY[1:]
    args = Namespace(overrides=overrides, rounds=1, steps=2)
    rows = list(bench_archs.archs(resolved(*overrides), args))
    assert [row["arm"] for row in rows] == ["resnet20", "vgg16"] and rows[0]["params"] < rows[1]["params"]
    for row in rows:
        expected = 3 * row["macs"] * row["images_a_second"]["median"]
        assert row["macs_a_second"]["median"] == pytest.approx(expected, rel=1e-3) and row["batch_size"] == 16


def test_step_compares_ours_with_torchvision_and_timm(bench):
    pytest.importorskip("torchvision")
    rows = bench("step", "--rounds", "1", "--steps", "2", "--workers", "1", *TINY, "recipe.strength=1")
    assert [row["arm"].partition(",")[0] for row in rows] == ["ours", "torchvision", "torchvision", "timm"]
    assert all({"mixup", "cutmix", "random_erasing"} < set(row["augmentation"]) for row in rows)
    base = rows[1]["images_a_second"]["median"]
    for row in rows:
        speed = row["images_a_second"]["median"]
        assert speed > 0 and row["times_torchvision"]["median"] == pytest.approx(speed / base, rel=1e-3)


def test_pipeline_compares_the_data_paths_alone(bench):
    pytest.importorskip("torchvision")
    rows = bench("pipeline", "--rounds", "1", "--steps", "1", "--workers", "1", "data=sample", "threads=1")
    assert [(row["recipe"], row["arm"][:5]) for row in rows] == [
        ("plain", "ours"),
        ("plain", "torch"),
        ("deit", "ours"),
        ("deit", "torch"),
        ("deit", "timm'"),
    ]
    for ours, row in zip((rows[0], rows[0], *[rows[2]] * 3), rows, strict=True):
        ratio = ours["images_a_second"]["median"] / row["images_a_second"]["median"]
        assert row["ours_is"]["median"] == pytest.approx(ratio, rel=1e-2)


def test_augment_compares_the_policies_alone_or_names_the_missing_package(bench, capsys):
    try:
        rows = bench("augment", "--rounds", "1", "data=sample", "threads=1")
    except SystemExit as stop:
        assert stop.code == 2
        assert capsys.readouterr().err == "error: bench augment needs kornia: pip install torchvision timm kornia\n"
        return
    assert [row["arm"] for row in rows].count("ours") == 2 and len(rows) == 8
    assert all(row["images_a_second"]["median"] > 0 for row in rows)


def test_a_config_error_is_one_line_with_a_suggestion(bench, capsys):
    with pytest.raises(SystemExit) as stop:
        bench("step", "arch=convnex")
    output = capsys.readouterr()
    assert stop.value.code == 2 and output.out == "" and output.err.count("\n") == 1
    assert "Did you mean convnext?" in output.err
