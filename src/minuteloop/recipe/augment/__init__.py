"""Augmentations: transforms of a training batch, and the pipeline that runs them."""
