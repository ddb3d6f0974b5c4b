"""RandAugment and TrivialAugment: each operation against Pillow's, timm's and torchvision's on real images, and the
laws of their draws."""

import math
import random
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import autoaugment as torchvision
from torchvision.transforms import functional as F

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.config.compose import Ingredients
from minuteloop.data.cifar import load
from minuteloop.recipe.augment import image_ops, rand_augment, trivial_augment
from minuteloop.recipe.augment.rand_augment import RandAugment
from minuteloop.recipe.augment.subsets import put, strata, take
from minuteloop.recipe.augment.trivial_augment import TrivialAugment
from minuteloop.validation import ConfigError

FILL = (124, 116, 104)
SAMPLE = torch.from_numpy(load("sample").train_images)  # real CIFAR-10 images, uint8 [2000,3,32,32]
MODES = {
    "nearest": F.InterpolationMode.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
SIZES = pytest.mark.parametrize("size", [32, 24])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def cut(size: int, count: int = 64) -> torch.Tensor:
    """Real images, and two flat and one two-valued one, cut to size x size."""
    images = SAMPLE[:count].clone()
    images[0], images[1], images[2], images[2, :, :9] = 0, 200, 30, 31
    return images[..., :size, :size].contiguous()


def by_pillow(images: torch.Tensor, operation) -> torch.Tensor:
    """`operation` on each image as a Pillow image."""
    changed = [operation(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images]
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in changed])


def each(images, value) -> torch.Tensor:
    return torch.full((len(images),), value)


# --- every operation, at several arguments ----------------------------------------------------------------------

FACTORS = (0.01, 0.1, 0.19, 0.73, 1.0, 1.27, 1.81, 1.99)
EXACT = [
    ("auto_contrast", timm.auto_contrast, [None]),
    ("equalize", timm.equalize, [None]),
    ("invert", timm.invert, [None]),
    ("posterize", timm.posterize, [1, 2, 3, 4, 7, 8]),
    ("solarize", timm.solarize, [0, 1, 26, 128, 255, 256]),
    ("solarize_add", timm.solarize_add, [0, 1, 50, 99, 110]),
    ("color", timm.color, FACTORS),
    ("contrast", timm.contrast, FACTORS),
    ("brightness", timm.brightness, FACTORS),
    ("sharpness", timm.sharpness, FACTORS),
]
TONES = [pytest.param(ours, theirs, a, id=f"{ours}-{a}") for ours, theirs, arguments in EXACT for a in arguments]


@SIZES
@pytest.mark.parametrize(("ours", "theirs", "argument"), TONES)
def test_tone_operation_is_pillows_to_the_last_bit(ours, theirs, argument, size):
    images = cut(size)
    arguments = [] if argument is None else [argument]
    changed = getattr(image_ops, ours)(images, *(each(images, value) for value in arguments))
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, by_pillow(images, lambda image: theirs(image, *arguments)))


@pytest.mark.parametrize(("bits", "kept"), [(0, 0), (1, 128), (4, 240)])
def test_posterize_to_0_bits_is_black_where_pillow_13_refuses(bits, kept):
    images = cut(32)
    assert torch.equal(image_ops.posterize(images, each(images, bits)), images & kept)


def sheared(slide):
    return lambda images, amounts, *how: slide(images, image_ops.shear(amounts, images.shape[2]), *how)


def moved(slide):
    return lambda images, shares, *how: slide(images, shares[:, None] * images.shape[2], *how)


WARPS = {  # on squares
    "rotate": (image_ops.rotate, timm.rotate, (-30.0, -27.3, 1.0, 12.0, 30.0)),
    "shear_x": (sheared(image_ops.slide_x), timm.shear_x, (-0.3, -0.273, 0.01, 0.99)),
    "shear_y": (sheared(image_ops.slide_y), timm.shear_y, (-0.3, -0.273, 0.01, 0.99)),
    "translate_x": (moved(image_ops.slide_x), timm.translate_x_rel, (-0.98, -0.45, -0.1, 0.03, 0.405, 0.98)),
    "translate_y": (moved(image_ops.slide_y), timm.translate_y_rel, (-0.98, -0.45, -0.1, 0.03, 0.405, 0.98)),
}


@SIZES
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", WARPS)
def test_warp_is_pillows_but_for_float32_where_it_cuts_at_a_whole_number(name, mode, size):
    """Differences of 1 in 255 where Pillow's doubles and our singles fall on two sides of a whole number."""
    images = cut(size)
    warp, operation, arguments = WARPS[name]
    for argument in arguments:
        ours = warp(images, each(images, argument), mode, FILL).int()
        theirs = by_pillow(
            images, lambda image, a=argument: operation(image, a, fillcolor=FILL, resample=MODES[mode])
        ).int()
        assert (ours - theirs).abs().max() <= 1
        assert (ours != theirs).float().mean() < 0.04, argument


def test_warp_of_nothing_is_the_image_and_far_away_is_the_fill():
    images = cut(32)
    for mode in MODES:
        for warp, *_ in WARPS.values():
            assert torch.equal(warp(images, each(images, 0.0), mode, FILL), images)
        for distance in (-1e9, -33.0, 32.5, 1e9):
            gone = image_ops.slide_y(images, each(images, distance)[:, None], mode, FILL)
            assert torch.equal(gone, torch.tensor(FILL, dtype=torch.uint8).view(1, 3, 1, 1).expand_as(images))


def test_images_that_are_not_square_slide_and_turn():
    images = SAMPLE[:8, :, 4:28]  # 24 rows of 32
    for mode in MODES:
        for amounts in (each(images, 5.25), torch.linspace(-40, 40, 8)):
            across = image_ops.slide_x(images, amounts[:, None], mode, FILL)
            down = image_ops.slide_y(images.transpose(2, 3), amounts[:, None], mode, FILL)
            assert torch.equal(across, down.transpose(2, 3))
        half = image_ops.rotate(images, each(images, 180.0), mode, FILL)
        assert (half.int() - images.flip(2, 3).int()).abs().max() <= 1


def test_operations_take_each_image_by_its_own_argument():
    images = cut(32, 6)
    amounts = torch.linspace(0.2, 1.8, 6)
    for name in ("color", "contrast", "brightness", "sharpness"):
        alone = [getattr(image_ops, name)(images[k : k + 1], amounts[k : k + 1]) for k in range(6)]
        assert torch.equal(getattr(image_ops, name)(images, amounts), torch.cat(alone))
    for warp, *_ in WARPS.values():
        alone = [warp(images[k : k + 1], amounts[k : k + 1], "bicubic", FILL) for k in range(6)]
        assert torch.equal(warp(images, amounts, "bicubic", FILL), torch.cat(alone))


def test_arithmetic_stays_float32_under_autocast():
    images = cut(32)
    level = each(images, 7.0)

    def everything():
        tones = [tone(images, level, -level) for tone in rand_augment.TONES.values()]
        warps = [warp(images, level, "bicubic", FILL) for warp in rand_augment.WARPS.values()]
        return torch.cat([*tones, *warps])

    with torch.autocast("cpu", torch.bfloat16):
        under = everything()
    assert torch.equal(under, everything())


# --- the policies, operation by operation -----------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 3.25, 5.0, 8.625, 9.0, 9.875, 10.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_rand_augment_maps_levels_as_timm(level, sign, monkeypatch):
    images = cut(32, 24)
    monkeypatch.setattr(timm, "_randomly_negate", lambda value: sign * value)
    # Pillow 13 refuses 0 bits, which timm asks for at level 10
    black = lambda image, bits, **_: timm.ImageOps.posterize(image, bits) if bits else image.point([0] * 768)  # noqa: E731
    monkeypatch.setitem(timm.NAME_TO_OP, "PosterizeIncreasing", black)
    drawn = each(images, level)
    for name, tone in rand_augment.TONES.items():
        theirs = timm.AugmentOp(name, prob=1.0, magnitude=level)
        assert torch.equal(tone(images, drawn, sign * drawn), by_pillow(images, theirs)), name
    for name, warp in rand_augment.WARPS.items():
        hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
        theirs = timm.AugmentOp(name, prob=1.0, magnitude=level, hparams=hparams)
        ours = warp(images, sign * drawn, "bicubic", FILL)
        assert (ours.int() - by_pillow(images, theirs).int()).abs().max() <= 1, name
    ours = {*rand_augment.TONES, *rand_augment.WARPS}
    assert ours == set(timm._RAND_INCREASING_TRANSFORMS) and len(ours) == rand_augment.NUM_OPS


@pytest.mark.parametrize("bin_", [0, 1, 7, 15, 29, 30])
@pytest.mark.parametrize("sign", [1, -1])
def test_trivial_augment_maps_magnitudes_as_torchvision(bin_, sign):
    images = cut(32, 24)
    space = torchvision.TrivialAugmentWide()._augmentation_space(trivial_augment.BINS)

    def theirs(name):
        magnitudes, signed = space[name]
        # rounded: its linspace gives 15.999999 for 16 pixels, of which it then takes 15
        magnitude = round(float(magnitudes[bin_]), 4) * (sign if signed else 1) if magnitudes.ndim else 0.0
        return by_pillow(images, lambda image: torchvision._apply_op(image, name, magnitude, MODES["nearest"], None))

    drawn = each(images, float(bin_))
    for name, tone in trivial_augment.TONES.items():
        assert torch.equal(tone(images, drawn, sign * drawn), theirs(name)), name
    for name, warp in trivial_augment.WARPS.items():
        # Pillow's nearest works in 16-bit fixed point: at a border between two pixels it may take the other
        same = (warp(images, sign * drawn, "nearest", [0, 0, 0]) == theirs(name)).all(1).float().mean()
        assert same == 1 if "Translate" in name else same > 0.98, name
    assert {*trivial_augment.TONES, *trivial_augment.WARPS, "Identity"} == set(space)


# --- the laws of the draws --------------------------------------------------------------------------------------


def close(count: int, n: int, share: float) -> bool:
    """Within 4.5 binomial deviations."""
    return abs(count - n * share) <= 4.5 * math.sqrt(n * share * (1 - share))


@pytest.mark.parametrize(
    ("n", "unit", "weights"),
    [(1, 0.5 / 30, [2, 1]), (7, 0.25, [1]), (30, 1 / 14, [1, 2, 1]), (5, 1.0, [1]), (10, 0.35 / 30, [2] * 15)],
)
def test_each_row_is_in_a_part_with_its_probability(n, unit, weights):
    trials, hits = 6000, torch.zeros(len(weights), n + 1)
    for _ in range(trials):
        rows, sizes = strata(n, unit, weights, "cpu")
        real = rows[rows < n]
        assert len(real) == len(real.unique()) and sum(sizes) == len(rows)
        for part, found in enumerate(rows.split(sizes)):
            hits[part].index_add_(0, found, torch.ones(len(found)))
    for part, weight in enumerate(weights):
        assert all(close(count, trials, unit * weight) for count in hits[part, :n].tolist())


def test_put_changes_the_taken_rows_only():
    images = cut(32, 20)
    rows, _ = strata(20, 0.3, [1], "cpu")
    assert torch.equal(put(images, rows, take(images, rows)), images)
    blank = put(images, rows, torch.zeros_like(take(images, rows)))
    untouched = [row for row in range(20) if row not in rows.tolist()]
    assert torch.equal(blank[untouched], images[untouched]) and not blank[rows[rows < 20]].any()


def signatures(monkeypatch, policy, module, images, rounds: int) -> tuple:
    """What `policy` did: how often each operation met an image, and the arguments that it got, over `rounds`."""
    counts, levels, signs, modes = Counter(), [], [], Counter()

    def note(name, part, signed):
        real = part.flatten(1).any(1).bool()  # a slot for no image holds the last image, made black here
        counts[name] += real.sum().item()
        levels.append(signed[real].abs())
        signs.append((signed[real] > 0).float())
        return real.sum().item()

    def tone(name, part, level, signed):
        assert torch.equal(level, signed.abs())
        note(name, part, signed)
        return part

    def warp(name, part, signed, mode, fill):
        modes[mode] += note(name, part, signed)
        return part

    for kind, call in (("TONES", tone), ("WARPS", warp)):
        monkeypatch.setattr(module, kind, {name: partial(call, name) for name in getattr(module, kind)})
    for _ in range(rounds):
        assert torch.equal(policy(images, None)[0], images)
    return counts, torch.cat(levels), torch.cat(signs), modes


def black_last(n: int) -> torch.Tensor:
    images = SAMPLE[:n].clone()
    images[-1] = 0
    return images


def test_rand_augment_draws_as_timm(monkeypatch):
    """Operations, their number, levels, signs and interpolations against timm's own draws' laws."""
    images, rounds = black_last(97), 300
    counts, levels, signs, modes = signatures(monkeypatch, RandAugment(), rand_augment, images, rounds)
    n = 96 * rounds * 2  # two layers
    assert len(counts) == 15
    for name, count in counts.items():
        assert close(count, n, 0.5 / 15), name
    assert close(sum(counts.values()), n, 0.5)
    warped = modes["bilinear"] + modes["bicubic"]
    assert close(modes["bilinear"], warped, 0.5) and close(warped, n, 0.5 / 3)
    assert close(int(signs.sum()), len(signs), 0.5)
    gauss = torch.tensor([max(0.0, min(random.gauss(9, 0.5), 10.0)) for _ in range(len(levels))])
    for quantile in (0.01, 0.25, 0.5, 0.75, 0.99):
        assert levels.quantile(quantile).item() == pytest.approx(gauss.quantile(quantile).item(), abs=0.05)
    assert levels.max() == 10 and (levels == 10).float().mean().item() == pytest.approx(0.0228, abs=0.004)


def test_the_two_layers_are_independent():
    """The share of images that two layers leave alone is the square of one layer's share."""
    images = SAMPLE[:500]

    def unchanged(policy):
        kept = [(policy(images, None)[0] == images).flatten(1).all(1).float().mean().item() for _ in range(8)]
        return sum(kept) / len(kept)

    assert unchanged(RandAugment(num_ops=2)) == pytest.approx(unchanged(RandAugment(num_ops=1)) ** 2, abs=0.02)


def test_trivial_augment_draws_one_operation_of_14_evenly(monkeypatch):
    images, rounds = black_last(57), 400
    counts, magnitudes, signs, modes = signatures(monkeypatch, TrivialAugment(), trivial_augment, images, rounds)
    n = 56 * rounds
    assert len(counts) == 13  # the fourteenth does nothing
    for name, count in counts.items():
        assert close(count, n, 1 / 14), name
    assert set(modes) == {"nearest"} and close(modes["nearest"], n, 5 / 14)
    bins = Counter(magnitudes.int().tolist())
    assert sorted(bins) == list(range(31)) and all(close(count, len(magnitudes), 1 / 31) for count in bins.values())
    assert close(int(signs.sum()), len(signs), 0.5 * 30 / 31)  # magnitude 0 has no sign


def test_strength_multiplies_the_share_of_augmented_images():
    ingredients = instantiate.ingredients(compose(["recipe=deit"]).recipe)
    assert [type(transform).__name__ for transform in ingredients.at("pixels")] == ["Crop", "Flip", "RandAugment"]
    assert RandAugment() in ingredients.at_strength(1.0).transforms
    assert RandAugment(prob=0.25) in ingredients.at_strength(0.5).transforms
    trivial = instantiate.ingredients(compose(["recipe=plain", "ingredient=[trivial_augment]"]).recipe)
    assert TrivialAugment(prob=0.5) in trivial.at_strength(0.5).transforms
    assert TrivialAugment() not in trivial.at_strength(0.0).transforms


@pytest.mark.parametrize("policy", [RandAugment(), RandAugment(prob=1.0, num_ops=3), TrivialAugment()])
@pytest.mark.parametrize(("n", "size"), [(1, 32), (2, 24), (17, 32), (127, 24), (512, 32)])
def test_any_batch_and_size_repeats_with_the_seed(policy, n, size):
    images = SAMPLE[:n, :, :size, :size]
    before = images.clone()

    def once(seed):
        torch.manual_seed(seed)
        return policy(images, None)[0]

    changed = once(1)
    assert changed.shape == images.shape and changed.dtype == torch.uint8
    assert torch.equal(images, before)
    assert torch.equal(once(1), changed)
    if n > 100:
        assert not torch.equal(once(2), changed)


def test_copies_of_one_image_come_out_different():
    images = SAMPLE[5:6].expand(256, -1, -1, -1)
    assert len(RandAugment(prob=1.0)(images, None)[0].flatten(1).unique(dim=0)) > 235  # a few share invert, equalize..
    moved = RandAugment(prob=1.0, interpolation="bicubic")(images, None)[0]
    assert len(moved.flatten(1).unique(dim=0)) > 235


def test_an_unfit_fill_or_interpolation_is_refused():
    for cls in (RandAugment, TrivialAugment):
        with pytest.raises(ConfigError, match=r"fill=\[1, 2\], not three values in \[0, 255\]"):
            cls(fill=[1, 2])
    with pytest.raises(ConfigError, match="interpolation=cubic, unknown"):
        compose(["recipe.batch.rand_augment.interpolation=cubic"])


# --- nothing waits for the device -------------------------------------------------------------------------------


class NoWaiting(TorchDispatchMode):
    """Refuses what makes a host wait for its device, has a shape that depends on values, or copies from the host."""

    WAITS = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "unique",
        "equal",
        "bincount",
        "lift_fresh",
        "is_nonzero",
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name.startswith(self.WAITS):
            raise AssertionError(f"{name} waits for the device")
        if name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1]):
            raise AssertionError("a boolean index waits for the device")
        return func(*args, **(kwargs or {}))


def deit_module():
    from minuteloop.training.classifier import Classifier
    from minuteloop.training.plan import Plan

    recipe = instantiate.ingredients(compose(["recipe=deit"]).recipe)
    plan = Plan(steps=8, batch_size=64, epochs=1.0, strength=1.0, lr=1e-3, weight_decay=0.05, seconds_asked=None)
    return Classifier(torch.nn.Identity(), recipe, plan, load("sample"))


def test_nothing_in_the_deit_recipe_waits_for_the_device():
    module, labels = deit_module(), torch.arange(64) % 10
    trivial = TrivialAugment()
    with NoWaiting():
        module.augment(SAMPLE[:64], labels)
        trivial(SAMPLE[:64], labels)
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        (SAMPLE[0] > 3).sum().item()
    with pytest.raises(AssertionError, match="boolean"), NoWaiting():
        SAMPLE[SAMPLE > 3]


def test_prob_0_changes_nothing():
    for policy in (RandAugment(prob=0.0), TrivialAugment(prob=0.0)):
        assert torch.equal(policy(SAMPLE[:30], None)[0], SAMPLE[:30])


@pytest.mark.gpu
def test_the_deit_recipe_replays_as_a_cuda_graph():
    module, images, labels = deit_module().cuda(), SAMPLE[:64].cuda(), torch.arange(64).cuda() % 10
    for _ in range(3):
        module.augment(images, labels)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        changed, targets = module.augment(images, labels)
    torch.manual_seed(3)
    graph.replay()
    first = changed.clone()
    graph.replay()
    assert not torch.equal(first, changed)
    torch.manual_seed(3)
    graph.replay()
    assert torch.equal(first, changed)
    torch.testing.assert_close(targets.sum(1), torch.ones(64, device="cuda"))


def test_each_image_meets_one_mixer_and_its_targets_tell_how_much():
    """Flat images whose value is 20 times their class: mixup leaves them flat, cutmix does not."""
    module = deit_module()
    mixers = module.ingredients.at("mixed")
    module.ingredients = Ingredients(None, None, None, transforms=tuple(mixers))
    labels = torch.arange(64) % 10
    images = (labels * 20).byte().view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    flat, orders = [], set()
    for _ in range(50):
        changed, targets = module.augment(images, labels)
        raw = changed * module.std + module.mean
        torch.testing.assert_close(raw.mean((1, 2, 3)), (targets * torch.arange(10) * 20).sum(1), atol=0.1, rtol=1e-3)
        flat.append(raw.flatten(1).std(1) < 0.1)
        orders.add(tuple(targets[0].nonzero().flatten().tolist()))
        assert changed.is_contiguous(memory_format=torch.channels_last)
    flat = torch.stack(flat).float().mean(0)
    assert (flat[:32] == 1).all() and flat[32:].mean() < 0.2  # a cutmix box may be empty or the whole image
    assert len(orders) > 5  # the batch was turned


def test_repeats_mix_with_other_images():
    """With repeats no image meets its own copy: mixed targets of as many classes as images would have weight 1."""
    from minuteloop.data.device_loader import DeviceLoader

    module = deit_module()
    module.num_classes = 2000  # every image its own class
    module.ingredients = Ingredients(None, None, None, transforms=tuple(module.ingredients.at("mixed")))
    for repeats, size in ((2, 64), (3, 64), (3, 126)):
        loader = DeviceLoader(SAMPLE, torch.arange(2000), torch.arange(2000), size, seed=1, repeats=repeats)
        images, labels = next(iter(loader))
        assert len(labels.unique()) == math.ceil(size / repeats)
        blended = []
        for _ in range(100):
            _, targets = module.augment(images, labels)
            # Beta(0.8, 0.8) is within 1e-3 of 0 or 1 seldom
            blended.append((targets[: size // 2].max(1).values < 0.999).float().mean())
        assert torch.stack(blended).min() > 0.9
