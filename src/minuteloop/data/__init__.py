"""CIFAR: download, file formats, verification, and batches on the training device."""
