"""What a net costs in seconds and memory: forward and backward, measured."""

import statistics
import time

import torch

from minuteloop.nets.blueprint import Blueprint
from minuteloop.nets.net import build_net
from minuteloop.nets.timm_adapter import TimmPlan

WARM = 3  # passes that are not counted


def measure(
    blueprint: Blueprint | TimmPlan, batch_size: int, device: str, bf16: bool, channels_last: bool, passes: int
) -> float:
    """Images/s of forward and backward together on random images, the median of `passes`; no optimizer, no data."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = build_net(blueprint).to(device, memory_format=layout).train()
    side = blueprint.image_size
    images = torch.randn(batch_size, 3, side, side).to(device, memory_format=layout)
    labels = torch.randint(blueprint.num_classes, (batch_size,)).to(device)
    seconds = []
    for _ in range(WARM + passes):
        begin = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        net.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return batch_size / statistics.median(seconds[WARM:])
