"""What is checked of norms over a batch: in training each needs more than one value per channel."""

from minuteloop.config.instantiate import ingredients
from minuteloop.schema import Config
from minuteloop.validation import ConfigError

GHOST = "recipe.regularizers.ghost_batch_norm.ghost_batch_size"
NUM_CLASSES = 10  # norms are the same for any number


def check_batch_statistics(config: Config, image_size: int) -> None:
    """Run a training step's forward pass on the meta device where norms may get single images.

    Imports torch, but only for such a config: with two images or more, every norm has two values or more.

    Raises:
        ConfigError: if a norm over the batch would get one value per channel, as on a feature map of 1x1.
    """
    nodes = [node for node in config.recipe.regularizers.values() if node is not None]
    if config.recipe.batch_size > 1 and all(node.get("ghost_batch_size") != 1 for node in nodes):
        return
    import torch

    from minuteloop.nets.net import build_net
    from minuteloop.nets.spec import resolve

    with torch.device("meta"):
        net = build_net(resolve(config.arch, config.size, image_size, NUM_CLASSES)).train()
    recipe = ingredients(config.recipe)
    for norm in recipe.regularizers.values():
        if getattr(norm, "ghost_batch_size", None) == 1:
            norm(net)
    for start in recipe.starts:
        size = recipe.at_phase(start, image_size)[0]
        images = torch.empty(min(config.recipe.batch_size, 2), 3, size, size, device="meta")
        try:
            with torch.no_grad():
                net(images)
        except (ValueError, ZeroDivisionError) as error:  # of torch's norms, and of EvoNorm-B0
            key = "recipe.batch_size" if config.recipe.batch_size == 1 else GHOST
            where = f"on images of {size}x{size} pixels (a smaller size.reduce may help)"
            raise ConfigError(f"{key}=1: must be >= 2; a norm would get 1 value per channel {where}") from error
        except (RuntimeError, AssertionError):
            return  # a size on which the net does not run at all: build reports it
