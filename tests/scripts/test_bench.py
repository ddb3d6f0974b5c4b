"""The benches at their smallest: what the rows hold, not how fast anything is."""

import argparse
import itertools
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from minuteloop import compose, hardware
from minuteloop.data.cifar import load
from minuteloop.nets import cpu_kernels as ops

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.append(str(SCRIPTS))

import bench_archs  # noqa: E402
import bench_forms  # noqa: E402
import bench_rounds  # noqa: E402
import bench_startup  # noqa: E402
import bench_step  # noqa: E402

TINY = ["arch=resnet18", "size.width=0.125", "size.depth=0.1", "data=sample", "recipe.batch_size=16", "threads=1"]


def bench(*words):
    done = subprocess.run([sys.executable, str(SCRIPTS / "bench.py"), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        assert row["bench"] == words[0] and row["overrides"] == [word for word in words if "=" in word]
        assert row["host"]["cores"] >= 1 and row["versions"]["torch"] == torch.__version__.partition("+")[0]
    return rows


def test_arms_take_turns_and_each_goes_first_equally_often():
    order = []
    count = itertools.count()
    arms = {name: lambda name=name: order.append(name) or next(count) for name in "abc"}
    figures = bench_rounds.alternate(arms, 3)
    assert "".join(order[3:]) == "abcbcacab" and sorted(order[:3]) == list("abc")
    assert figures == {"a": [3, 8, 10], "b": [4, 6, 11], "c": [5, 7, 9]}  # the uncounted round took 0, 1 and 2


def test_a_figure_is_a_median_with_the_least_and_the_most():
    assert bench_rounds.spread([4.0, 1.0, 2.00004]) == {"median": 2.0, "range": [1.0, 4.0]}
    # round by round: 2, 2 and 3 times, although the medians differ by 2.5
    few = bench_rounds.times([2.0, 20.0, 15.0], [1.0, 10.0, 5.0])
    assert few == {"median": 2.0, "range": [2.0, 3.0], "interval": [2.0, 3.0]}
    # the ranks of tables of the sign test: 2 and 9 of 10, 6 and 15 of 20
    assert bench_rounds.times([float(n) for n in range(1, 11)], [1.0] * 10)["interval"] == [2, 9]
    assert bench_rounds.times([float(n) for n in range(1, 21)], [1.0] * 20)["interval"] == [6, 15]


def test_overhead_compares_the_trainer_with_a_bare_loop():
    rows = bench("overhead", "--rounds", "1", "--steps", "3", *TINY)
    assert [row["arm"] for row in rows] == ["trainer", "bare"]
    trainer, bare = (row["ms_a_step"]["median"] for row in rows)
    assert trainer > 0 and rows[1]["of_trainer"]["median"] == pytest.approx(bare / trainer, rel=1e-3)


def test_stock_compares_our_operations_with_torchs():
    rows = bench("stock", "--rounds", "1", "--steps", "2", *TINY, "arch=convnext")
    assert [row["arm"] for row in rows][::5] == ["ours", "stock, all"] and len(rows) == 7
    times = [row["ms_a_step"]["median"] for row in rows]
    assert [row["of_ours"]["median"] for row in rows] == pytest.approx([time / times[0] for time in times], rel=1e-3)


@pytest.mark.parametrize(
    "layer",
    [ops.DepthwiseConv(12, 12, 7, padding=3, groups=12), ops.PatchConv(12, 12, 2, 2), ops.LayerNorm(12), ops.GELU()],
    ids=lambda layer: type(layer).__name__,
)
def test_what_is_stock_computes_the_same(layer):
    ours, maps = type(layer), torch.randn(2, 12, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bench_step.STOCK[ours](layer, maps), layer(maps), atol=1e-5, rtol=1e-5)


def test_forms_are_of_one_function_and_each_is_timed(monkeypatch):
    torch.manual_seed(0)
    maps = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    depthwise, gammas = bench_forms._depthwise(8, 4, 3), torch.linspace(0.5, 2, 8)
    del depthwise["dense"]
    for made in (
        [form(maps, depthwise["plain"][1]) for form, _ in depthwise.values()],
        [form(maps, gammas) for _, form in bench_forms._norms(8)],
        [form(maps) for name, form in bench_forms._gelus() if name != "tanh"],
    ):
        for other in made[1:]:
            torch.testing.assert_close(other, made[0], atol=1e-5, rtol=1e-5)

    monkeypatch.setattr(bench_forms, "SHAPES", [(8, 4)])
    config = hardware.resolve_auto(compose(["data=sample", "recipe.batch_size=2", "precision=fp32", "device=cpu"]))
    rows = list(bench_forms.forms(config, argparse.Namespace(rounds=1)))
    assert [row["what"] for row in rows] == 12 * ["depthwise"] + 3 * ["layer norm"] + 3 * ["GELU"]
    for row in rows:
        assert row["forward_ms"]["median"] > 0 < row["backward_maps_ms"]["median"] < row["all_ms"]["median"]
        assert ("backward_weights_ms" in row) == (row["what"] != "GELU")


def test_step_compares_ours_with_torchvision_and_timm():
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    rows = bench("step", "--rounds", "1", "--steps", "2", "--workers", "1", *TINY, "recipe.strength=1")
    assert [row["arm"].partition(",")[0] for row in rows] == ["ours", "torchvision", "torchvision", "timm"]
    assert all({"mixup", "cutmix", "random_erasing"} < set(row["augmentation"]) for row in rows)
    base = rows[1]["images_a_second"]["median"]
    for row in rows:
        speed = row["images_a_second"]["median"]
        assert speed > 0 and row["times_torchvision"]["median"] == pytest.approx(speed / base, rel=1e-3)


def test_pipeline_compares_the_data_paths_alone():
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
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


def test_augment_compares_the_policies_alone_or_says_what_is_missing():
    command = [sys.executable, str(SCRIPTS / "bench.py"), "augment", "--rounds", "1", "data=sample", "threads=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        assert done.stderr == "error: kornia is missing: pip install torchvision timm kornia\n"
        return
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["arm"] for row in rows].count("ours") == 2 and len(rows) == 8
    assert all(row["images_a_second"]["median"] > 0 for row in rows)


def loaders(*overrides):
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    import bench_loaders

    images, recipe = load("sample"), compose(["data=sample", "recipe.batch_size=200", *overrides]).recipe
    made = bench_loaders.Loaders(recipe, images, torch.arange(2000), torch.device("cpu"), workers=0)
    return images, made.torchvision(None), made.timm(None)


def test_the_loaders_of_others_give_the_normalised_images_where_no_augmentation_is_listed():
    images, *others = loaders("recipe=plain", "~recipe.batch.crop", "~recipe.batch.flip")
    pixels = torch.from_numpy(images.train_images) / 255
    wanted = (pixels - torch.tensor(images.mean).view(3, 1, 1)) / torch.tensor(images.std).view(3, 1, 1)
    for batches in others:
        inputs, targets = zip(*(next(batches) for _ in range(10)), strict=True)
        assert torch.cat(targets).sum(0).tolist() == pytest.approx([200.0] * 10)
        found = torch.cat(inputs).double().flatten(1).sum(1).sort().values
        torch.testing.assert_close(found, wanted.double().flatten(1).sum(1).sort().values, atol=2e-3, rtol=0)


def test_the_loaders_of_others_mix_and_smooth_as_the_recipe_says():
    _, *others = loaders("recipe=deit")
    for batches in others:
        inputs, targets = next(batches)
        assert inputs.shape == (200, 3, 32, 32) and inputs.dtype == torch.float32
        torch.testing.assert_close(targets.sum(1), torch.ones(200))
        assert targets.min() == pytest.approx(0.01, abs=1e-6), "label smoothing of 0.1 over 10 classes"
        assert (targets > 0.011).sum(1).max() == 2, "two classes mixed"


def test_timms_policy_meets_no_magnitude_that_pillow_refuses():
    pytest.importorskip("torchvision")
    policy = pytest.importorskip("timm.data.auto_augment").rand_augment_transform
    import bench_loaders

    random.seed(0)
    images = load("sample").train_images.transpose(0, 2, 3, 1)
    before = [Image.fromarray(image) for image in images]
    transform = policy(bench_loaders.TIMM_POLICY, {})
    changed = sum(transform(image) is not image for image in before)  # crashes within 1,300 images without mmax9
    assert changed > 1000, "two operations, each with probability 0.5"


def test_a_listed_ingredient_that_others_lack_is_refused():
    from minuteloop.validation import ConfigError

    target = "{_target_: minuteloop.recipe.augment.flip.Flip}"
    with pytest.raises(ConfigError, match=r"recipe\.batch\.mirror"):
        loaders(f"+recipe.batch.mirror={target}")


def test_startup_books_every_moment_up_to_the_first_step_once():
    begin = time.time()
    seconds = bench_startup.measure([*TINY, "logger=wandb", "budget=2steps"])
    assert 0.9 * (time.time() - begin) - 0.5 < seconds["total"] < time.time() - begin
    assert seconds["total"] == pytest.approx(sum(seconds[item] for item in bench_startup.ITEMS))
    assert seconds["calibrate"] == 0, "a number of steps needs none"
    for item in set(bench_startup.ITEMS) - {"calibrate"}:
        assert seconds[item] > 1e-4, item
    assert seconds["import torch"] > seconds["import minuteloop"] and seconds["total"] > 1.0


def test_startup_gives_a_row_for_each_logger(monkeypatch):
    asked = []

    def measured(overrides):
        asked.append(overrides)
        return dict.fromkeys(("total", *bench_startup.ITEMS), float(len(asked)))

    monkeypatch.setattr(bench_startup, "measure", measured)
    args = argparse.Namespace(overrides=["arch=convnext", "logger=none"], rounds=2)
    none, wandb = bench_startup.startup(None, args)
    assert (none["arm"], wandb["arm"]) == ("logger=none", "logger=wandb")
    assert sorted(map(tuple, asked[-2:])) == [("arch=convnext", "logger=none"), ("arch=convnext", "logger=wandb")]
    assert none["seconds"]["total"] == {"median": 4.5, "range": [3.0, 6.0]}
    assert list(none["seconds"]) == ["total", *bench_startup.ITEMS]


def test_a_mistake_is_told_in_one_line():
    done = subprocess.run([sys.executable, str(SCRIPTS / "bench.py"), "step", "arch=convnex"], capture_output=True)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and b"nearest: convnext" in done.stderr


def test_archs_stand_with_their_multiply_adds_and_their_seconds(tmp_path, monkeypatch):
    (tmp_path / "arch").mkdir()
    for name in ("resnet20", "vgg16"):
        (tmp_path / "arch" / f"{name}.yaml").touch()
    monkeypatch.setattr(bench_archs, "CONF", tmp_path)
    words = [*TINY[1:], "precision=fp32", "device=cpu"]
    args = argparse.Namespace(overrides=words, rounds=1, steps=2)
    rows = list(bench_archs.archs(hardware.resolve_auto(compose(words)), args))
    assert [row["arm"] for row in rows] == ["resnet20", "vgg16"] and rows[0]["params"] < rows[1]["params"]
    for row in rows:
        expected = 3 * row["macs"] * row["images_a_second"]["median"]
        assert row["macs_a_second"]["median"] == pytest.approx(expected, rel=1e-3) and row["batch_size"] == 16
