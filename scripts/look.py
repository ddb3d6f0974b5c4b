"""What a trained net sees: its stem's filters, and the maps that each stage makes of a few test images.

    python scripts/look.py RUN                  # writes RUN/pictures/filters.png and RUN/pictures/maps.png
    python scripts/look.py RUN --images 3 7 12

The filters of a space-to-depth stem are shown on the pixel grid, each as wide as the pixels it reads.
"""

import argparse
import sys

from minuteloop.validation import ConfigError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("--images", type=int, nargs="+", default=list(range(6)), help="places in the test set")
    args = parser.parse_args()
    try:
        from minuteloop.trained.feature_maps import look

        for path in look(args.run, args.images):
            print(path)
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
