"""Measure the images/s of a net, forward and backward."""

import statistics
import time

import torch

from minuteloop.nets.net import build_net
from minuteloop.nets.spec import NetSpec
from minuteloop.nets.timm_adapter import TimmSpec

WARMUP = 3  # passes that are not timed


def measure(
    spec: NetSpec | TimmSpec, batch_size: int, device: str, bf16: bool, channels_last: bool, passes: int
) -> float:
    """Return images/s, the median of `passes` forward and backward on random images, without optimizer and data."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = build_net(spec).to(device, memory_format=layout).train()
    images = torch.randn(batch_size, 3, spec.image_size, spec.image_size).to(device, memory_format=layout)
    labels = torch.randint(spec.num_classes, (batch_size,)).to(device)
    seconds = []
    for _ in range(WARMUP + passes):
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        net.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return batch_size / statistics.median(seconds[WARMUP:])
