"""A run's folder back to the net that it trained."""

from __future__ import annotations

import os
from pathlib import Path

from minuteloop.records.record import read
from minuteloop.validation import ConfigError


def load(folder: str | os.PathLike):
    """The trained net of a run: a module in eval mode, on the CPU, uint8 images [N,3,32,32] to logits [N,K].

    It is the run's module.Classifier, normalisation inside, without its recipe: `.net` is the bare net, and a
    Trainer can test it. `folder` is what the run left, evaluated. Raises ConfigError for any other.
    """
    folder = Path(folder)
    record = read(folder, str(folder))
    if "test/acc" not in record["metrics"]:
        raise ConfigError(f"{folder}: that run is {record['status']}, not evaluated; resume={folder} goes on with it")
    config = typed(record["config"])

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from minuteloop.data.cifar import constants
    from minuteloop.nets.net import build_net
    from minuteloop.nets.spec import resolve
    from minuteloop.recipe.ingredients import Ingredients
    from minuteloop.training.classifier import Classifier
    from minuteloop.training.plan import Plan

    dataset = constants(config.data.name)
    net = build_net(resolve(config.arch, config.size, IMAGE_SIZE, len(dataset.classes)))
    try:
        net.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ConfigError(f"{folder / 'model.safetensors'}: {str(error).splitlines()[0]}") from error
    plan = Plan(**record["plan"])
    for regularizer in instantiate.ingredients(config.recipe).at_strength(plan.strength).regularizers:
        regularizer(net)  # some set what evaluation needs: batch norm's eps
    bare = Ingredients(optimizer=None, schedule=None, loss=None)
    model = Classifier(net, bare, plan, dataset, channels_last=config.channels_last)
    return model.eval()
