"""What overrides resolve to, without training: programs, grids, parameters, multiply-adds, steps and sources.

python scripts/explain.py arch=convnext size=tiny
python scripts/explain.py arch=resnet 'modernization=[patchify,gelu]' --image-size 224 --num-classes 1000 --json
python scripts/explain.py arch=mobilenetv2 --measure    # and its seconds, at the config's batch, device and precision
"""

import argparse
import json
import sys

from minuteloop.config.compose import IMAGE_SIZE, compose
from minuteloop.nets.summary import summarize, text
from minuteloop.validation import ConfigError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as train.py takes them")
    parser.add_argument("-cn", "--config-name", default="config")
    parser.add_argument("-cd", "--config-dir", default="")
    parser.add_argument("--image-size", type=int, default=IMAGE_SIZE, help="side in pixels")
    parser.add_argument("--num-classes", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", action="store_true", help="forward and backward, images/s and memory")
    args = parser.parse_intermixed_args()
    try:
        config = compose(args.overrides, args.config_name, args.config_dir, image_size=args.image_size)
        told = summarize(config.arch, config.size, args.image_size, args.num_classes)
        if args.measure:
            told["measured"] = measured(config, args.image_size, args.num_classes)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(told, indent=2) if args.json else text(told))


def measured(config, image_size: int, num_classes: int) -> dict:
    """images/s of forward and backward, and what they were measured with."""
    from minuteloop import hardware

    hardware.keep_freed_memory()
    config = hardware.resolve_auto(config)
    from minuteloop.nets.spec import resolve
    from minuteloop.nets.throughput import measure

    blueprint, size = resolve(config.arch, config.size, image_size, num_classes), config.recipe.batch_size
    rate = measure(blueprint, size, config.device, config.precision == "bf16", config.channels_last, passes=20)
    return {
        "images_per_second": rate,
        "peak_memory_bytes": hardware.peak_memory(config.device),
        "batch_size": size,
        "precision": config.precision,
        "threads": config.threads,
        "device": config.device,
    }


if __name__ == "__main__":
    main()
