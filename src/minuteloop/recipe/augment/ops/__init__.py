"""Tensor operations that the augmentations are made of. They import torch; the ingredients load without it."""
