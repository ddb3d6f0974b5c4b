"""The augmentation pipeline: what happens to a training batch between the dataset and the net."""

from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minuteloop.recipe.augment.random_seed import reseed
from minuteloop.recipe.ingredients import Ingredients


class AugmentPipeline(nn.Module):
    """Augments and normalizes training batches on their device, with separate draws for each image.

    The work has two parts. `chunk` runs the transforms on uint8 images (stages source and pixels) for several batches
    at once. `batch` runs the others on one batch and normalizes it. All draws are functions of (seed, step).

    Args:
        ingredients: those of the recipe, at the run's strength.
        mean, std: of the dataset's channels, in [0, 1].
        num_classes: K of the soft targets [N,K].
        steps: planned length of the run; it turns a step into progress.
        seed: of the run.
        channels_last: the memory format of the float images.
        only_phase: if set, every step belongs to the phase that starts here (a fraction of the run).
    """

    def __init__(
        self,
        ingredients: Ingredients,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        num_classes: int,
        steps: int,
        seed: int = 0,
        channels_last: bool = True,
        only_phase: float | None = None,
    ) -> None:
        super().__init__()
        self.ingredients, self.num_classes, self.steps, self.seed = ingredients, num_classes, steps, seed
        self.starts, self.only_phase = ingredients.starts, only_phase
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def chunk(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Augment the uint8 images of several consecutive batches; `step` is that of the first.

        Seeds the generators with (seed, -1 - step); training steps use the seeds from 0 on.

        Returns:
            uint8 images [N,3,H,W] and soft targets [N,K].
        """
        reseed(self.seed, -1 - step)
        return self._augment_pixels(images, labels, epoch, step)

    def batch(self, images: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Finish one batch of `chunk`: normalize, mix and resize it. Uses the generators as they are.

        With several mixers the batch is rotated by a random offset and split into one part per mixer, so that
        neighbours (which mix with each other) stay neighbours.

        Returns:
            float32 images [N,3,H,W], at the resolution of the step's phase, and soft targets [N,K].
        """
        image_size, ingredients = self.at_step(step, images.shape[-1])
        mixers = ingredients.at("mixed")
        if len(mixers) > 1:
            images, targets = _rotate(images, targets)
        images = self._standardize(images)  # NCHW until the end: on CPU, broadcasting over inner channels is slow
        for transform in ingredients.at("normalized"):
            images, targets = transform(images, targets)
        for transform in ingredients.at("targets"):
            targets = transform(targets)
        if mixers:
            parts = zip(mixers, images.tensor_split(len(mixers)), targets.tensor_split(len(mixers)), strict=True)
            images, targets = map(torch.cat, zip(*(mixer(*part) for mixer, *part in parts), strict=True))
        if image_size != images.shape[-1]:
            images = nn.functional.interpolate(images, image_size, mode="bilinear", antialias=True)
        return images.contiguous(memory_format=self.memory_format), targets

    def augment(self, images: Tensor, labels: Tensor, epoch: int = 0, step: int = 0) -> tuple[Tensor, Tensor]:
        """Run both parts on one batch without seeding the generators: uint8 images -> float images, soft targets."""
        return self.batch(*self._augment_pixels(images, labels, epoch, step), step)

    def normalize(self, images: Tensor) -> Tensor:
        """Return uint8 images [N,3,H,W] as float32 with mean 0 and std 1 over the dataset."""
        return self._standardize(images).contiguous(memory_format=self.memory_format)

    def at_step(self, step: int, image_size: int) -> tuple[int, Ingredients]:
        """Return the training image size and the ingredients of a step; `image_size` is the dataset's, in pixels."""
        return self.ingredients.at_phase(self.phase(step), image_size)

    def phase(self, step: int) -> float:
        """Return the start of the phase that `step` belongs to, as a fraction of the run."""
        if self.only_phase is not None:
            return self.only_phase
        return self.starts[bisect_right(self.starts, step / self.steps) - 1]

    def _augment_pixels(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        _, ingredients = self.at_step(step, images.shape[-1])
        targets = (labels[:, None] == torch.arange(self.num_classes, device=labels.device)).float()
        for transform in ingredients.at("source"):
            images = transform(images, epoch, self.seed)
        for transform in ingredients.at("pixels"):
            images, targets = transform(images, targets)
        return images, targets

    def _standardize(self, images: Tensor) -> Tensor:
        return images.float().mul_(1 / self.std).sub_(self.mean / self.std)  # a product is faster than a quotient


def _rotate(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Shift a batch cyclically by one random offset."""
    positions = torch.arange(len(images), device=images.device)
    order = (positions + torch.randint(len(images), (1,), device=images.device)) % len(images)
    return images.index_select(0, order), targets[order]
