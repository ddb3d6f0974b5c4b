"""Build what a config describes: images, net, ingredients, and classifiers of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytorch_lightning as pl

from minuteloop.config import instantiate
from minuteloop.data.cifar import Images, load
from minuteloop.data.datamodule import CIFARDataModule
from minuteloop.nets.net import build_net
from minuteloop.nets.spec import resolve
from minuteloop.recipe.ingredients import Ingredients
from minuteloop.schema import Config
from minuteloop.training.classifier import Classifier
from minuteloop.training.plan import Plan, make_plan

WHITENING_IMAGES = 5000  # Jordan 2024, sec. 3.2


@dataclass(frozen=True)
class Parts:
    """The parts of a run."""

    config: Config
    images: Images
    data: CIFARDataModule
    spec: object  # a resolved net
    net: object
    ingredients: Ingredients  # at full strength

    def classifier(self, plan: Plan, only_phase: float | None = None) -> Classifier:
        """Return a classifier of the net for a plan, and let the data module augment as it does."""
        classifier = Classifier(
            self.net,
            self.ingredients.at_strength(plan.strength),
            plan,
            self.images,
            seed=self.config.seed,
            channels_last=self.config.channels_last,
            only_phase=only_phase,
        )
        self.data.pipeline = classifier.pipeline
        return classifier

    def plan(self, steps_per_second: float = 0.0, accumulate_grad_batches: int = 1) -> Plan:
        """Return the plan of the config's budget at a rate of optimizer steps.

        With `accumulate_grad_batches`, the Trainer's argument, a step takes that many batches of recipe.batch_size.
        """
        train_images = len(self.data.train_indices)
        recipe = replace(self.config.recipe, batch_size=self.config.recipe.batch_size * accumulate_grad_batches)
        return make_plan(self.config.budget, recipe, self.ingredients, train_images, steps_per_second)


def build(config: Config) -> Parts:
    """Build the parts of a run, seeded. Raises ConfigError."""
    images = load(config.data.name, config.data.root)
    data = CIFARDataModule(images, config.recipe.batch_size, config.data.holdout, config.seed, config.recipe.repeats)
    image_size = images.train_images.shape[-1]
    pl.seed_everything(config.seed, verbose=False)
    spec = resolve(config.arch, config.size, image_size, len(images.classes))
    net = build_net(spec)
    net.init_from(data.first_training_images(WHITENING_IMAGES))
    ingredients = instantiate.ingredients(config.recipe)
    if config.compile is True:  # auto, in a user's own Trainer, does not compile
        # a progressive recipe: one kernel for each image size, not one for all
        net.compile(dynamic=False if ingredients.progressive else None)
    return Parts(config, images, data, spec, net, ingredients)
