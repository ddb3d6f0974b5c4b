"""Optimizers, each with the rule for its automatic learning rate."""
