"""The trained net of a run, loaded from its folder."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from minuteloop.config import instantiate
from minuteloop.config.compose import IMAGE_SIZE, typed
from minuteloop.data.cifar import constants
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.records.record import WEIGHTS, read_record
from minuteloop.schema import Config
from minuteloop.validation import ConfigError, quoted

log = logging.getLogger("minuteloop")


class TrainedNet(nn.Module):
    """A net with its normalization: uint8 images [N,3,H,W] -> logits [N,K]. Can be traced and exported.

    Args:
        net: float images [N,3,H,W] of mean 0 and std 1 -> logits.
        classes: the K class names.
        mean, std: of the dataset's channels, in [0, 1].
        image_size: the only H = W that is accepted, in pixels.
        channels_last: the memory format of the net and its input.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        *,
        image_size: int = IMAGE_SIZE,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.classes, self.image_size = tuple(classes), image_size
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.net = net.to(memory_format=self.memory_format)
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor | np.ndarray) -> Tensor:
        """Return the logits [N,K] of uint8 images [N,3,H,W], a tensor or a numpy array.

        Raises:
            ValueError: for another dtype, rank or image size.
        """
        return self.net(self.normalize(images))

    def normalize(self, images: Tensor | np.ndarray) -> Tensor:
        """Return uint8 images [N,3,H,W] as the net's float32 input. Raises ValueError like forward."""
        if not torch.jit.is_tracing():  # in a trace, sizes are tensors
            self._check(images)
        if isinstance(images, np.ndarray):
            images = torch.tensor(np.ascontiguousarray(images), device=self.mean.device)
        images = images.float().mul_(1 / self.std).sub_(self.mean / self.std)  # the operations of training
        return images.contiguous(memory_format=self.memory_format)

    def _check(self, images: Tensor | np.ndarray) -> None:
        dtype, size = str(images.dtype).removeprefix("torch."), self.image_size
        if dtype != "uint8" or images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            shape = ",".join(map(str, images.shape))
            raise ValueError(f"images must be uint8 [N,3,{size},{size}], got {dtype} [{shape}]")


def load(folder: str | os.PathLike) -> TrainedNet:
    """Return the trained net of a run: on the CPU, in eval mode. Its `.net` is the net without normalization.

    Raises:
        ConfigError: if `folder` is not the folder of an evaluated run, or its weights are damaged.
    """
    folder = Path(folder)
    record = read_record(folder, str(folder))
    if not record["steps"]:
        status = record["status"]
        raise ConfigError(
            f"{folder}: the run is {status} and has no trained net; continue it with {quoted('resume', folder)}"
        )
    path, config, dataset = folder / WEIGHTS, typed(record["config"]), constants(record["config"]["data"]["name"])
    try:
        weights = _read_weights(path, record)
        net = build_net(resolve(config.arch, config.size, IMAGE_SIZE, len(dataset.classes)))
        net.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    _apply_regularizers(net, config, record["plan"]["strength"])
    return TrainedNet(net, dataset.classes, dataset.mean, dataset.std, channels_last=config.channels_last).eval()


def _read_weights(path: Path, record: dict) -> dict[str, Tensor]:
    """Return the weights of a run. Raises ConfigError where they are not those of its record."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if "files" not in record:
        log.warning(f"{path}: not checked, since result.json is of an earlier version and has no SHA-256 of it")
    elif record["files"].get(path.name) != hashlib.sha256(content).hexdigest():
        raise ConfigError(f"{path}: damaged (its SHA-256 is not that in result.json); restore it or train again")
    return safetensors.torch.load(content)


def _apply_regularizers(net: nn.Module, config: Config, strengths: dict[str, float]) -> None:
    """Apply the run's regularizers to its net: some set what evaluation needs, such as the eps of batch norm."""
    for regularizer in instantiate.ingredients(config.recipe).at_strength(strengths).regularizers.values():
        regularizer(net)
