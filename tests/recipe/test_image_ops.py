"""Tone and geometric operations against Pillow, timm and torchvision, on real images."""

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm
from torchvision.transforms import autoaugment as torchvision
from torchvision.transforms import functional as F
from torchvision.transforms.v2 import functional as tv

from minuteloop.data.cifar import load
from minuteloop.recipe.augment.ops import geometric, rand_augment_ops, tone, trivial_augment_ops

FILL = (124, 116, 104)
SAMPLE = torch.from_numpy(load("sample").train_images)  # real CIFAR-10 images, uint8 [2000,3,32,32]
MODES = {
    "nearest": F.InterpolationMode.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
SIZES = pytest.mark.parametrize("size", [32, 24])


def crops(size: int, count: int = 64) -> torch.Tensor:
    """Return real images of size x size, and two with one color and one with two values."""
    images = SAMPLE[:count].clone()
    images[0], images[1], images[2], images[2, :, :9] = 0, 200, 30, 31
    return images[..., :size, :size].contiguous()


def by_pillow(images: torch.Tensor, operation) -> torch.Tensor:
    """Apply `operation` to each image as a Pillow image."""
    changed = [operation(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images]
    return torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in changed])


def repeated(images, value) -> torch.Tensor:
    return torch.full((len(images),), value)


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
def test_tone_operation_is_bit_equal_to_pillow(ours, theirs, argument, size):
    images = crops(size)
    arguments = [] if argument is None else [argument]
    changed = getattr(tone, ours)(images, *(repeated(images, value) for value in arguments))
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, by_pillow(images, lambda image: theirs(image, *arguments)))


@pytest.mark.parametrize(("bits", "kept"), [(0, 0), (1, 128), (4, 240)])
def test_posterize_to_0_bits_is_black_where_pillow_13_raises(bits, kept):
    images = crops(32)
    assert torch.equal(tone.posterize(images, repeated(images, bits)), images & kept)


def moved(slide):
    return lambda images, fractions, *args: slide(images, fractions[:, None] * images.shape[2], *args)


WARPS = {  # on squares
    "rotate": (geometric.rotate, timm.rotate, (-30.0, -27.3, 1.0, 12.0, 30.0)),
    "shear_x": (geometric.shear_x, timm.shear_x, (-0.3, -0.273, 0.01, 0.99)),
    "shear_y": (geometric.shear_y, timm.shear_y, (-0.3, -0.273, 0.01, 0.99)),
    "translate_x": (moved(geometric.slide_x), timm.translate_x_rel, (-0.98, -0.45, -0.1, 0.03, 0.405, 0.98)),
    "translate_y": (moved(geometric.slide_y), timm.translate_y_rel, (-0.98, -0.45, -0.1, 0.03, 0.405, 0.98)),
}


@SIZES
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", WARPS)
def test_warp_differs_from_pillow_only_by_float32_rounding(name, mode, size):
    """Values differ by 1 where Pillow's float64 and our float32 fall on two sides of an integer."""
    images = crops(size)
    warp, operation, arguments = WARPS[name]
    for argument in arguments:
        ours = warp(images, repeated(images, argument), mode, FILL).int()
        theirs = by_pillow(
            images, lambda image, a=argument: operation(image, a, fillcolor=FILL, resample=MODES[mode])
        ).int()
        assert (ours - theirs).abs().max() <= 1
        assert (ours != theirs).float().mean() < 0.04, argument


def test_warp_by_0_is_the_identity_and_a_far_one_gives_the_fill():
    images = crops(32)
    for mode in MODES:
        for warp, *_ in WARPS.values():
            assert torch.equal(warp(images, repeated(images, 0.0), mode, FILL), images)
        for distance in (-1e9, -33.0, 32.5, 1e9):
            shifted = geometric.slide_y(images, repeated(images, distance)[:, None], mode, FILL)
            assert torch.equal(shifted, torch.tensor(FILL, dtype=torch.uint8).view(1, 3, 1, 1).expand_as(images))


def test_warps_work_on_images_that_are_not_square():
    images = SAMPLE[:8, :, 4:28]  # 24 rows of 32
    for mode in MODES:
        for amounts in (repeated(images, 5.25), torch.linspace(-40, 40, 8)):
            across = geometric.slide_x(images, amounts[:, None], mode, FILL)
            down = geometric.slide_y(images.transpose(2, 3), amounts[:, None], mode, FILL)
            assert torch.equal(across, down.transpose(2, 3))
        half = geometric.rotate(images, repeated(images, 180.0), mode, FILL)
        assert (half.int() - images.flip(2, 3).int()).abs().max() <= 1


def test_each_image_has_its_own_argument():
    images = crops(32, 6)
    amounts = torch.linspace(0.2, 1.8, 6)
    for name in ("color", "contrast", "brightness", "sharpness"):
        alone = [getattr(tone, name)(images[k : k + 1], amounts[k : k + 1]) for k in range(6)]
        assert torch.equal(getattr(tone, name)(images, amounts), torch.cat(alone))
    for warp, *_ in WARPS.values():
        alone = [warp(images[k : k + 1], amounts[k : k + 1], "bicubic", FILL) for k in range(6)]
        assert torch.equal(warp(images, amounts, "bicubic", FILL), torch.cat(alone))


def test_arithmetic_stays_float32_under_autocast():
    images = crops(32)
    level = repeated(images, 7.0)

    def all_operations():
        tones = [operation(images, level, -level) for operation in rand_augment_ops.TONES.values()]
        warps = [warp(images, level, "bicubic", FILL) for warp in rand_augment_ops.WARPS.values()]
        return torch.cat([*tones, *warps])

    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = all_operations()
    assert torch.equal(under_autocast, all_operations())


def test_blur_is_a_gaussian(sample):
    images = sample[:8]
    for sigma in (0.1, 0.5, 1.0, 2.0):
        ours = tone.blur(images, torch.full((8,), sigma), reach=6).float()
        theirs = tv.gaussian_blur(images.float(), kernel_size=13, sigma=sigma).round()
        inside = (ours - theirs)[:, :, 6:-6, 6:-6].abs()
        assert inside.max() <= 1 and (inside > 0).float().mean() < 0.01
    assert torch.equal(tone.blur(images, torch.full((8,), 0.1), reach=6), images)


# --- the levels of the policies, operation by operation ---------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 3.25, 5.0, 8.625, 9.0, 9.875, 10.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_rand_augment_maps_levels_like_timm(level, sign, monkeypatch):
    images = crops(32, 24)
    monkeypatch.setattr(timm, "_randomly_negate", lambda value: sign * value)
    # at level 10 timm asks for 0 bits, where Pillow 13 raises
    black = lambda image, bits, **_: timm.ImageOps.posterize(image, bits) if bits else image.point([0] * 768)  # noqa: E731
    monkeypatch.setitem(timm.NAME_TO_OP, "PosterizeIncreasing", black)
    drawn = repeated(images, level)
    for name, operation in rand_augment_ops.TONES.items():
        theirs = timm.AugmentOp(name, prob=1.0, magnitude=level)
        assert torch.equal(operation(images, drawn, sign * drawn), by_pillow(images, theirs)), name
    for name, warp in rand_augment_ops.WARPS.items():
        hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
        theirs = timm.AugmentOp(name, prob=1.0, magnitude=level, hparams=hparams)
        ours = warp(images, sign * drawn, "bicubic", FILL)
        assert (ours.int() - by_pillow(images, theirs).int()).abs().max() <= 1, name
    ours = {*rand_augment_ops.TONES, *rand_augment_ops.WARPS}
    assert ours == set(timm._RAND_INCREASING_TRANSFORMS) and len(ours) == rand_augment_ops.NUM_OPS


@pytest.mark.parametrize("bin_", [0, 1, 7, 15, 29, 30])
@pytest.mark.parametrize("sign", [1, -1])
def test_trivial_augment_maps_magnitudes_like_torchvision(bin_, sign):
    images = crops(32, 24)
    space = torchvision.TrivialAugmentWide()._augmentation_space(trivial_augment_ops.BINS)

    def theirs(name):
        magnitudes, signed = space[name]
        # rounded: torchvision's linspace gives 15.999999 for 16 pixels and truncates it to 15
        magnitude = round(float(magnitudes[bin_]), 4) * (sign if signed else 1) if magnitudes.ndim else 0.0
        return by_pillow(images, lambda image: torchvision._apply_op(image, name, magnitude, MODES["nearest"], None))

    drawn = repeated(images, float(bin_))
    for name, operation in trivial_augment_ops.TONES.items():
        assert torch.equal(operation(images, drawn, sign * drawn), theirs(name)), name
    for name, warp in trivial_augment_ops.WARPS.items():
        # Pillow's nearest uses 16-bit fixed point: at the border of two pixels it may take the other one
        same = (warp(images, sign * drawn, "nearest", [0, 0, 0]) == theirs(name)).all(1).float().mean()
        assert same == 1 if "Translate" in name else same > 0.98, name
    assert {*trivial_augment_ops.TONES, *trivial_augment_ops.WARPS, "Identity"} == set(space)
