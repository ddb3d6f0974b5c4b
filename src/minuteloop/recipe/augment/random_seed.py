"""Random seeds: every draw of a run is a function of (seed, step)."""

import torch


def reseed(seed: int, step: int, micro_batch: int = 0, stream: int = 0) -> None:
    """Seed torch's generators for the draws of one step; the arguments are those of `draw_seed`."""
    mixed = draw_seed(seed, step, micro_batch, stream)
    torch.default_generator.manual_seed(mixed)  # torch.manual_seed takes 80 us on a machine with CUDA that is unused
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(mixed)


def draw_seed(seed: int, step: int, micro_batch: int = 0, stream: int = 0) -> int:
    """Return the generator seed of one step: a mix of the run's seed and the step (Steele 2014, SplitMix64).

    `micro_batch` counts the batches of an optimizer step that accumulates gradients. `stream` is 0 for draws that all
    processes share, and 1 + rank for a process's own. The result has 64 bits; torch's CPU generator uses the lower 32.
    """
    z = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9) % 2**64
    z = (z + micro_batch * 0xD1342543DE82EF95 + stream * 0xDA942042E4DD58B5) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)
