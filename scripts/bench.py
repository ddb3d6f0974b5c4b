"""What a training step costs: rows of JSON, one measurement each, with the machine and versions.

    python scripts/bench.py overhead                      # our Trainer against a bare loop doing the same arithmetic
    python scripts/bench.py overhead --rounds 9 arch=convnext size=pico

The arms alternate in one process and every figure is a median over rounds, with the least and the most beside it.
"""

import argparse
import json
import statistics
import time

from minuteloop import build, host
from minuteloop.schema import Config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead"])
    parser.add_argument("overrides", nargs="*", help="as train.py takes them")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60, help="steps a round and arm")
    args = parser.parse_intermixed_args()
    net = ["arch=resnet18", "size.width=0.25", "size.depth=1", "recipe.batch_size=256"]  # ResNet-18, a quarter as wide
    config = build.compose([*(args.overrides or net), "data=sample", f"budget={args.steps}steps"])
    host.prepare()
    config = host.resolve_auto(config)
    row = overhead(config, args.rounds)
    print(json.dumps({"bench": args.what, **row, "host": host.describe(config.device), "versions": host.versions()}))


def overhead(config: Config, rounds: int) -> dict:
    """Milliseconds a step of a Lightning Trainer and of a bare loop, and the bare loop's share of the Trainer's."""
    import torch

    from minuteloop.clock import Clock
    from minuteloop.data.cifar import load
    from minuteloop.data.module import CIFARData
    from minuteloop.module import Classifier, draw_seed
    from minuteloop.nets.blueprint import resolve
    from minuteloop.nets.net import build_net
    from minuteloop.plan import make_plan
    from minuteloop.run import make_trainer, quiet_lightning

    quiet_lightning()
    images = load(config.data.name)
    ingredients = build.ingredients(config.recipe)
    data = CIFARData(images, config.recipe.batch_size, config.data.holdout)
    plan = make_plan(config.budget, config.recipe, ingredients.optimizer.auto_lr, len(data.train_indices))
    net = build_net(resolve(config.arch, config.size, 32, len(images.classes)))
    module = Classifier(net, ingredients.at_strength(plan.strength), plan, images)
    device = torch.device(config.device)
    bf16 = config.precision == "bf16"

    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def with_trainer() -> float:
        clock = Clock()
        trainer = make_trainer(config, max_steps=plan.steps, callbacks=[clock], logger=False, limit_val_batches=0)
        trainer.fit(module, data)
        return clock.seconds / plan.steps

    def bare() -> float:
        module.to(device).train()
        current = [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
        averages = [tensor.clone() for tensor in current]
        made = module.configure_optimizers()
        optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
        loader, losses = data.train_dataloader(), torch.zeros((), device=device)
        begin, step = wait(), 0
        while step < plan.steps:
            for batch in loader:
                torch.manual_seed(draw_seed(0, step))
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    inputs, targets = module.augment(*batch)
                    loss = ingredients.loss(net(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                losses += loss.detach()
                if ingredients.callbacks:
                    torch._foreach_lerp_(averages, current, 0.01)
                step += 1
                if step == plan.steps:
                    break
        return (wait() - begin) / plan.steps

    with_trainer(), bare()  # first steps allocate
    pairs = [(with_trainer(), bare()) for _ in range(rounds)]
    ratios = sorted(alone / ours for ours, alone in pairs)
    return {
        "config": f"{config.arch.name} {config.recipe.name}, batch {config.recipe.batch_size}, {config.precision}",
        "trainer_ms": round(1000 * statistics.median(ours for ours, _ in pairs), 3),
        "bare_ms": round(1000 * statistics.median(alone for _, alone in pairs), 3),
        "ratio": round(statistics.median(ratios), 4),
        "ratio_range": [round(ratios[0], 4), round(ratios[-1], 4)],
        "rounds": rounds,
        "steps": plan.steps,
    }


if __name__ == "__main__":
    main()
