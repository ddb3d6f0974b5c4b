"""Data paths of other libraries for a CIFAR net: torchvision's transforms in a DataLoader, and timm's create_loader.

Both augment as the recipe lists it. Their RandAugment is DeiT's: 2 operations of magnitude 9.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import timm.data
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2

from minuteloop.data.cifar import Images
from minuteloop.schema import Recipe
from minuteloop.validation import ConfigError

SUPPORTED = ("crop", "flip", "rand_augment", "random_erasing", "label_smoothing", "mixup", "cutmix")

# timm 1.0.31's posterize keeps 0 bits at magnitude 10, which Pillow 13 rejects; mmax9 limits every draw, 9 +- 0.5, to 9
TIMM_POLICY = "rand-m9-mstd0.5-mmax9-inc1"


class PillowDataset(Dataset):
    """Images as PIL images, as torchvision.datasets.CIFAR10 returns them."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable | None = None) -> None:
        """`images` are uint8 [N,3,H,W]."""
        self.images, self.labels = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class Loaders:
    """Endless batches of (normalized float images [N,3,32,32], soft targets [N,K]) of the training images."""

    def __init__(self, recipe: Recipe, images: Images, indices: Tensor, device: torch.device, workers: int) -> None:
        self.batch = {name: node for name, node in recipe.batch.items() if node is not None}
        if unsupported := [name for name in self.batch if name not in SUPPORTED]:
            raise ConfigError(f"recipe.batch.{unsupported[0]}: must be one of {', '.join(SUPPORTED)} for bench step")
        self.images, self.num_classes, self.device = images, len(images.classes), device
        self.dataset = functools.partial(
            PillowDataset, images.train_images[indices.numpy()], images.train_labels[indices.numpy()]
        )
        self.options = {
            "batch_size": recipe.batch_size,
            "num_workers": workers,
            "pin_memory": device.type == "cuda",
            "persistent_workers": workers > 0,
        }

    def _value(self, name: str, field: str, default: float = 0.0) -> float:
        return self.batch.get(name, {}).get(field, default)

    def torchvision(self) -> Iterator:
        """transforms.v2: on PIL images up to RandAugment, then on tensors; mixing in the workers' collate."""
        transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=self._value("crop", "padding")) if "crop" in self.batch else v2.Identity(),
                v2.RandomHorizontalFlip(self._value("flip", "prob")),
                v2.RandAugment(num_ops=2, magnitude=9) if "rand_augment" in self.batch else v2.Identity(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self.images.mean, self.images.std, inplace=True),
                self._erasing(),
            ]
        )
        mixers = [
            mixer(alpha=self._value(name, "alpha"), num_classes=self.num_classes)
            for name, mixer in (("mixup", v2.MixUp), ("cutmix", v2.CutMix))
            if name in self.batch
        ]
        collate = functools.partial(
            _collate,
            mix=v2.RandomChoice(mixers) if mixers else None,
            num_classes=self.num_classes,
            smoothing=self._value("label_smoothing", "smoothing"),
        )
        loader = DataLoader(self.dataset(transform), shuffle=True, drop_last=True, collate_fn=collate, **self.options)
        while True:
            yield from loader

    def _erasing(self) -> nn.Module:
        if "random_erasing" not in self.batch:
            return v2.Identity()
        node = self.batch["random_erasing"]
        area, aspect = (node["min_area"], node["max_area"]), (node["min_aspect"], 1 / node["min_aspect"])
        return v2.RandomErasing(node["prob"], area, aspect, value="random", inplace=True)

    def timm(self) -> Iterator:
        """create_loader with DeiT's options; as in DeiT at 32 pixels, a padded crop replaces the resized one."""
        has_mixer = "mixup" in self.batch or "cutmix" in self.batch
        loader = timm.data.create_loader(
            self.dataset(),
            input_size=(3, 32, 32),
            is_training=True,
            hflip=self._value("flip", "prob"),
            color_jitter=None,
            auto_augment=TIMM_POLICY if "rand_augment" in self.batch else None,
            interpolation="bicubic",
            re_prob=self._value("random_erasing", "prob"),
            re_mode="pixel",
            mean=self.images.mean,
            std=self.images.std,
            device=self.device,
            collate_fn=timm.data.FastCollateMixup(
                mixup_alpha=self._value("mixup", "alpha", 0.0 if has_mixer else 1.0),
                cutmix_alpha=self._value("cutmix", "alpha"),
                prob=float(has_mixer),
                label_smoothing=self._value("label_smoothing", "smoothing"),
                num_classes=self.num_classes,
            ),
            **self.options,
        )
        padding = self._value("crop", "padding")
        loader.dataset.transform.transforms[0] = v2.RandomCrop(32, padding=padding) if padding else v2.Identity()
        while True:
            yield from loader


def timm_rand_augment() -> Callable:
    """Return timm's RandAugment with DeiT's policy."""
    return timm.data.auto_augment.rand_augment_transform(TIMM_POLICY, {"img_mean": (124, 116, 104)})


def _collate(samples: list, mix: Callable | None, num_classes: int, smoothing: float) -> tuple[Tensor, Tensor]:
    images, targets = default_collate(samples)
    images, targets = mix(images, targets) if mix else (images, nn.functional.one_hot(targets, num_classes).float())
    return images, targets * (1 - smoothing) + smoothing / num_classes
