"""Cost of the data path alone: shuffle, augment and normalize, without training. Needs torchvision and timm."""

from argparse import Namespace
from collections.abc import Callable, Iterator

import numpy as np
import torch
from benches.augment import speed_rows
from benches.rounds import now

from minuteloop.config import instantiate
from minuteloop.config.compose import compose
from minuteloop.data.cifar import Images, load
from minuteloop.data.device_loader import DeviceLoader
from minuteloop.recipe.augment.pipeline import AugmentPipeline
from minuteloop.recipe.augment.random_seed import reseed
from minuteloop.schema import Config
from minuteloop.validation import ConfigError

BATCH = 512  # images
EPOCHS = 10  # of ours in a round, so that the arms take about as long


def pipeline(config: Config, args: Namespace) -> Iterator[dict]:
    """Yield images/s of shuffled batches of 512: crop and flip (recipe plain), and all of DeiT's augmentation.

    Raises:
        ConfigError: if a peer is not installed.
    """
    dataset = load(config.data.name, config.data.root)
    images, labels = _repeat(dataset, BATCH * (args.steps + args.workers))
    for recipe in ("plain", "deit"):
        arms = {"ours": _ours(recipe, dataset, images, labels, config.device)}
        try:
            arms |= _peers(recipe, dataset, images, labels, config.device, args.workers)
        except ImportError as error:
            raise ConfigError(f"bench pipeline needs {error.name}: pip install torchvision timm") from error
        yield from ({"recipe": recipe, **row} for row in speed_rows(arms, args.rounds))


def _repeat(dataset: Images, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` training images and labels, repeated where there are fewer."""
    repeats = -(-count // len(dataset.train_labels))
    return tuple(np.concatenate([a] * repeats)[:count] for a in (dataset.train_images, dataset.train_labels))


def _ours(recipe: str, dataset: Images, images: np.ndarray, labels: np.ndarray, device: str) -> Callable[[], float]:
    """Return a function that measures images/s of the device loader and the pipeline."""
    steps = len(labels) // BATCH
    augment = AugmentPipeline(
        instantiate.ingredients(compose([f"recipe={recipe}"]).recipe),
        mean=dataset.mean,
        std=dataset.std,
        num_classes=len(dataset.classes),
        steps=steps,
    ).to(device)
    tensors = [torch.from_numpy(array).to(device) for array in (images, labels)]
    loader = DeviceLoader(*tensors, torch.arange(len(labels), device=device), BATCH, seed=0, pipeline=augment)

    def rate() -> float:
        begin = now(device)
        for _ in range(EPOCHS):
            for step, batch in enumerate(loader):
                reseed(0, step)
                augment.batch(*batch, step)
        return EPOCHS * BATCH * steps / (now(device) - begin)

    return rate


def _peers(
    recipe: str, dataset: Images, images: np.ndarray, labels: np.ndarray, device: str, workers: int
) -> dict[str, Callable[[], float]]:
    """Return name -> a function that measures images/s of Pillow transforms in worker processes."""
    from benches.loaders import PillowDataset, timm_rand_augment
    from timm.data.mixup import Mixup
    from torch.utils.data import DataLoader
    from torchvision.transforms import InterpolationMode, autoaugment, v2
    from torchvision.transforms import transforms as v1

    crop_and_flip = [v1.RandomCrop(32, padding=4), v1.RandomHorizontalFlip()]
    standardize = [v1.ToTensor(), v1.Normalize(dataset.mean, dataset.std)]

    def loaded(policy: list, erasing: list, mix: Callable) -> Callable[[], float]:
        transform = v1.Compose([*crop_and_flip, *policy, *standardize, *erasing])
        data = PillowDataset(images, labels, transform)
        loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=True, drop_last=True)
        return lambda: _loader_rate(loader, mix, device, warmup=workers)

    if recipe == "plain":
        return {"torchvision": loaded([], [], lambda *batch: batch)}
    erasing = [v1.RandomErasing(0.25, value="random")]
    rand_augment = autoaugment.RandAugment(2, 9, interpolation=InterpolationMode.BILINEAR)
    mixers = [v2.MixUp(alpha=0.8, num_classes=10), v2.CutMix(alpha=1.0, num_classes=10)]
    timm_mix = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10)
    return {
        "torchvision": loaded([rand_augment], erasing, v2.RandomChoice(mixers)),
        "timm's RandAugment and mixup": loaded([timm_rand_augment()], erasing, timm_mix),
    }


def _loader_rate(loader, mix: Callable, device: str, warmup: int) -> float:
    """Return images/s of one epoch, without its first `warmup` batches, in which the workers start."""
    for step, batch in enumerate(loader):
        if step == warmup:
            begin = now(device)
        mixed = mix(*batch)
        if device != "cpu":
            mixed = [tensor.to(device, non_blocking=True) for tensor in mixed]
    return BATCH * (step + 1 - warmup) / (now(device) - begin)
