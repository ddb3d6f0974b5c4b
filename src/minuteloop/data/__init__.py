"""CIFAR: where it comes from, how it is read and checked, and how batches of it are made."""
