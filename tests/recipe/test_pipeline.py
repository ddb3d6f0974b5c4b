"""AugmentPipeline: order of its parts, seeds, mixers, phases, and no waiting for the device."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from minuteloop import compose
from minuteloop.config import instantiate
from minuteloop.data.cifar import load
from minuteloop.data.device_loader import DeviceLoader
from minuteloop.recipe.augment.alternating_flip import AlternatingFlip
from minuteloop.recipe.augment.cutout import Cutout
from minuteloop.recipe.augment.flip import Flip
from minuteloop.recipe.augment.label_smoothing import LabelSmoothing
from minuteloop.recipe.augment.mixup import Mixup
from minuteloop.recipe.augment.pipeline import AugmentPipeline
from minuteloop.recipe.augment.random_seed import draw_seed, reseed
from minuteloop.recipe.augment.trivial_augment import TrivialAugment
from minuteloop.recipe.ingredients import Ingredients
from minuteloop.recipe.progressive import Progressive

DATA = load("sample")
SAMPLE = torch.from_numpy(DATA.train_images)  # real CIFAR-10 images, uint8 [2000,3,32,32]
LABELS = torch.arange(64) % 10


def make_pipeline(*transforms, steps=8, **kwargs) -> AugmentPipeline:
    progressive = kwargs.pop("progressive", None)
    ingredients = Ingredients(None, None, None, dict(enumerate(transforms)), progressive=progressive)
    return AugmentPipeline(ingredients, mean=DATA.mean, std=DATA.std, num_classes=10, steps=steps, **kwargs)


def deit_pipeline() -> AugmentPipeline:
    return make_pipeline(*instantiate.ingredients(compose(["recipe=deit"]).recipe).transforms.values())


def standardized(images):
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (DATA.mean, DATA.std))
    return images.float() * (1 / std) - mean / std


def test_chunk_and_batch_run_the_stages_in_order():
    pipeline = make_pipeline(LabelSmoothing(), Mixup(), Cutout(), Flip(), AlternatingFlip(), seed=3)
    changed, soft = pipeline.chunk(SAMPLE[:64], LABELS, epoch=1, step=5)
    reseed(3, 5)
    result, targets = pipeline.batch(changed, soft, step=5)

    reseed(3, -6)
    expected, one_hot = AlternatingFlip()(SAMPLE[:64], 1, 3), nn.functional.one_hot(LABELS, 10).float()
    expected, _ = Flip()(expected, one_hot)
    assert torch.equal(changed, expected) and torch.equal(soft, one_hot)
    reseed(3, 5)
    expected, _ = Cutout()(standardized(expected), one_hot)
    expected, expected_targets = Mixup()(expected, LabelSmoothing()(one_hot))
    assert torch.equal(result, expected) and torch.equal(targets, expected_targets)


def test_augment_is_chunk_and_batch_without_seeding():
    pipeline = make_pipeline(Flip(), Cutout())
    torch.manual_seed(7)
    images, targets = pipeline.augment(SAMPLE[:64], LABELS, epoch=2, step=3)
    torch.manual_seed(7)
    expected, _ = Cutout()(standardized(Flip()(SAMPLE[:64], None)[0]), None)
    assert torch.equal(images, expected) and torch.equal(targets, nn.functional.one_hot(LABELS, 10).float())


def test_chunks_depend_on_seed_and_step_only():
    def augmented(seed, step):
        torch.rand(3)
        return make_pipeline(Flip(), seed=seed).chunk(SAMPLE[:64], LABELS, 0, step)[0]

    assert torch.equal(augmented(1, 2), augmented(1, 2))
    assert not torch.equal(augmented(1, 2), augmented(2, 2)) and not torch.equal(augmented(1, 2), augmented(1, 3))


def test_draw_seeds_are_distinct():
    seeds = {draw_seed(seed, step) % 2**32 for seed in range(20) for step in range(-100, 100)}
    assert len(seeds) == 20 * 200


@pytest.mark.parametrize("channels_last", [True, False])
def test_normalize_gives_mean_0_and_std_1_in_the_memory_format(channels_last):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    pipeline = make_pipeline(channels_last=channels_last)
    images = pipeline.normalize(SAMPLE)
    assert torch.equal(images, standardized(SAMPLE)) and images.is_contiguous(memory_format=memory_format)
    assert images.mean().abs() < 0.1 and (images.std() - 1).abs() < 0.1
    assert pipeline.augment(SAMPLE[:64], LABELS)[0].is_contiguous(memory_format=memory_format)
    assert not pipeline.state_dict()  # the statistics are the dataset's


def test_phases_set_image_size_and_strength():
    pipeline = make_pipeline(LabelSmoothing(0.3), progressive=Progressive())
    assert [pipeline.phase(step) for step in range(8)] == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    batches = [pipeline.augment(SAMPLE[:64], LABELS, step=step) for step in range(8)]
    assert [images.shape[-1] for images, _ in batches] == [16, 16, 20, 20, 28, 28, 32, 32]
    assert batches[0][1].max() == pytest.approx(1 - 0.1 * 0.9, abs=1e-5)
    assert batches[7][1].max() == pytest.approx(1 - 0.3 * 0.9)
    small = nn.functional.interpolate(standardized(SAMPLE[:64]), 16, mode="bilinear", antialias=True)
    assert torch.equal(batches[0][0], small)
    late = make_pipeline(progressive=Progressive(), only_phase=0.5)
    assert late.phase(0) == 0.5 and late.at_step(0, 32)[0] == 28


class NoWaiting(TorchDispatchMode):
    """Rejects operations that make the host wait for the device, have data-dependent shapes or copy from the host."""

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


def test_nothing_in_the_deit_recipe_waits_for_the_device():
    pipeline, trivial = deit_pipeline(), TrivialAugment()
    with NoWaiting():
        pipeline.augment(SAMPLE[:64], LABELS)
        trivial(SAMPLE[:64], LABELS)
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        (SAMPLE[0] > 3).sum().item()
    with pytest.raises(AssertionError, match="boolean"), NoWaiting():
        SAMPLE[SAMPLE > 3]


@pytest.mark.gpu
def test_the_deit_recipe_replays_as_a_cuda_graph():
    pipeline, images, labels = deit_pipeline().cuda(), SAMPLE[:64].cuda(), LABELS.cuda()
    for _ in range(3):
        pipeline.augment(images, labels)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        changed, targets = pipeline.augment(images, labels)
    torch.manual_seed(3)
    graph.replay()
    first = changed.clone()
    graph.replay()
    assert not torch.equal(first, changed)
    torch.manual_seed(3)
    graph.replay()
    assert torch.equal(first, changed)
    torch.testing.assert_close(targets.sum(1), torch.ones(64, device="cuda"))


def test_each_image_uses_one_mixer_and_its_targets_match():
    """Images with a single value, 20 times their class: mixup keeps the value uniform, CutMix does not."""
    pipeline = make_pipeline(*deit_pipeline().ingredients.at("mixed"))
    images = (LABELS * 20).byte().view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    is_uniform, orders = [], set()
    for _ in range(50):
        changed, targets = pipeline.augment(images, LABELS)
        raw = changed * pipeline.std + pipeline.mean
        torch.testing.assert_close(raw.mean((1, 2, 3)), (targets * torch.arange(10) * 20).sum(1), atol=0.1, rtol=1e-3)
        is_uniform.append(raw.flatten(1).std(1) < 0.1)
        orders.add(tuple(targets[0].nonzero().flatten().tolist()))
        assert changed.is_contiguous(memory_format=torch.channels_last)
    uniform = torch.stack(is_uniform).float().mean(0)
    assert (uniform[:32] == 1).all() and uniform[32:].mean() < 0.2  # a CutMix box may be empty or the entire image
    assert len(orders) > 5  # the batch was rotated


def test_repeats_mix_with_other_images():
    """With repeats no image mixes with its own copy: with one class per image, the target's weight would be 1."""
    pipeline = make_pipeline(*deit_pipeline().ingredients.at("mixed"))
    pipeline.num_classes = 2000
    for repeats, size in ((2, 64), (3, 64), (3, 126)):
        loader = DeviceLoader(SAMPLE, torch.arange(2000), torch.arange(2000), size, seed=1, repeats=repeats)
        images, labels = next(iter(loader))
        assert len(labels.unique()) == math.ceil(size / repeats)
        blended = []
        for _ in range(100):
            _, targets = pipeline.augment(images, labels)
            # Beta(0.8, 0.8) is rarely within 1e-3 of 0 or 1
            blended.append((targets[: size // 2].max(1).values < 0.999).float().mean())
        assert torch.stack(blended).min() > 0.9
