"""Callbacks: what acts on the weights or gradients during training."""
