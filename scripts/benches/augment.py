"""Cost of augmenting a batch, with other libraries' cost of the same. Needs torchvision, timm and kornia."""

from argparse import Namespace
from collections.abc import Callable, Iterator

import numpy as np
import torch
from benches.rounds import alternate, seconds_per_call, spread, times
from PIL import Image

from minuteloop.data.cifar import load
from minuteloop.recipe.augment.rand_augment import RandAugment
from minuteloop.recipe.augment.trivial_augment import TrivialAugment
from minuteloop.schema import Config
from minuteloop.validation import ConfigError

BATCH = 512  # images
CALLS = 4  # a round


def augment(config: Config, args: Namespace) -> Iterator[dict]:
    """Yield a row for each library's RandAugment and TrivialAugment on a batch of 512, in the form that it takes.

    Raises:
        ConfigError: if a peer is not installed.
    """
    images = torch.from_numpy(load(config.data.name, config.data.root).train_images[:BATCH])
    try:
        policies = _policies(images, config.device)
    except ImportError as error:
        raise ConfigError(f"bench augment needs {error.name}: pip install torchvision timm kornia") from error
    for policy, arms in policies.items():
        yield from ({"policy": policy, **row} for row in speed_rows(arms, args.rounds))


def _policies(images: torch.Tensor, device: str) -> dict[str, dict[str, Callable[[], float]]]:
    """Return policy -> library -> a function that measures images/s; ours first."""
    from benches.loaders import timm_rand_augment
    from kornia.augmentation.auto import RandAugment as KorniaRandAugment
    from torchvision.transforms import autoaugment, v2

    pillow = [Image.fromarray(np.ascontiguousarray(image)) for image in images.permute(0, 2, 3, 1).numpy()]
    images = images.to(device)
    floats, kornia = images.float() / 255, KorniaRandAugment(n=2, m=27)  # of 30

    def rate(augment_batch: Callable[[], object]) -> Callable[[], float]:
        return lambda: BATCH / seconds_per_call(augment_batch, device, CALLS)

    def ours(policy: Callable) -> Callable[[], float]:
        return rate(lambda: policy(images, None))

    def one_by_one(policy: Callable, inputs) -> Callable[[], float]:
        return rate(lambda: [policy(image) for image in inputs])

    return {
        "RandAugment": {
            "ours": ours(RandAugment()),
            "timm, Pillow": one_by_one(timm_rand_augment(), pillow),
            "torchvision v1, Pillow": one_by_one(autoaugment.RandAugment(2, 9), pillow),
            "torchvision v2, a tensor an image": one_by_one(v2.RandAugment(2, 9), images),
            "kornia, one draw of operations for the batch": rate(lambda: kornia(floats)),
        },
        "TrivialAugment": {
            "ours": ours(TrivialAugment()),
            "torchvision v1, Pillow": one_by_one(autoaugment.TrivialAugmentWide(), pillow),
            "torchvision v2, a tensor an image": one_by_one(v2.TrivialAugmentWide(), images),
        },
    }


def speed_rows(arms: dict[str, Callable[[], float]], rounds: int) -> Iterator[dict]:
    """Yield images/s of each arm, and how many times as fast the first arm, ours, is."""
    speeds = alternate(arms, rounds)
    ours = next(iter(speeds.values()))
    for arm, figures in speeds.items():
        yield {"arm": arm, "images_a_second": spread(figures), "ours_is": times(ours, figures)}
