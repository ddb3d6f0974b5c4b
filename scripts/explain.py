"""What overrides resolve to, without training: programs, grids, parameters, multiply-adds, steps and sources.

python scripts/explain.py arch=convnext size=tiny
python scripts/explain.py arch=resnet 'modernization=[patchify,gelu]' --image-size 224 --num-classes 1000 --json
"""

import argparse
import json
import sys

from minuteloop.build import IMAGE_SIZE, compose
from minuteloop.nets.explain import explain, text
from minuteloop.schema import ConfigError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as train.py takes them")
    parser.add_argument("-cn", "--config-name", default="config")
    parser.add_argument("-cd", "--config-dir", default="")
    parser.add_argument("--image-size", type=int, default=IMAGE_SIZE, help="side in pixels")
    parser.add_argument("--num-classes", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_intermixed_args()
    try:
        config = compose(args.overrides, args.config_name, args.config_dir, image_size=args.image_size)
        told = explain(config.arch, config.size, args.image_size, args.num_classes)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(told, indent=2) if args.json else text(told))


if __name__ == "__main__":
    main()
