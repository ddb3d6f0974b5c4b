"""Fixtures of the recipe tests: fixed seeds, and real images."""

import random

import numpy as np
import pytest
import torch

from minuteloop.data.cifar import load


@pytest.fixture(autouse=True)
def fixed_seeds():
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


@pytest.fixture
def sample() -> torch.Tensor:
    """All 2,000 embedded CIFAR-10 images, uint8 [2000,3,32,32]."""
    return torch.from_numpy(load("sample").train_images)
