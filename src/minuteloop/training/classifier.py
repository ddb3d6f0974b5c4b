"""The LightningModule: a net, the ingredients of a recipe and the plan that they have to fit."""

import math
from bisect import bisect_right

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from minuteloop.data.cifar import Images
from minuteloop.recipe.ingredients import Ingredients
from minuteloop.recipe.param_groups import parameter_groups
from minuteloop.training.plan import Plan

LOG_EVERY = 50  # steps; between them nothing waits for the device
SHOWN = 32  # images of the first batch that are kept, for a picture


class Classifier(pl.LightningModule):
    """Trains `net` on uint8 images; batches are augmented on their device, each sample with its own draws.

    A batch is (images uint8 [N,3,H,W], labels int64 [N]); in training it has been through `prepare`. Every draw is a
    function of (seed, step). Of a recipe with phases `only_phase` trains in the one that begins there, to measure it.
    """

    def __init__(
        self,
        net: nn.Module,
        ingredients: Ingredients,
        plan: Plan,
        dataset: Images,
        *,
        seed: int = 0,
        channels_last: bool = True,
        only_phase: float | None = None,
    ) -> None:
        super().__init__()
        self.net, self.ingredients, self.plan = net, ingredients, plan
        self.num_classes, self.seed = len(dataset.classes), seed
        self.starts, self.only_phase = ingredients.starts, only_phase
        self.regularized_phase = 0.0  # that the net is set for, by setup and as phases change
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.net.to(memory_format=self.memory_format)
        self.register_buffer("mean", 255 * torch.tensor(dataset.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(dataset.std).view(1, 3, 1, 1), persistent=False)
        metrics = MetricCollection(
            {
                "acc": MulticlassAccuracy(self.num_classes, average="micro", validate_args=False),
                "loss": MeanMetric(nan_strategy="disable"),
            },
            compute_groups=False,
        )
        self.metrics = nn.ModuleDict({split: metrics.clone(prefix=f"{split}/") for split in ("val", "test")})
        self.acc_tta = MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)
        self.register_buffer("train_loss", torch.zeros(()))  # sum over the steps since the last log
        self.first_batch = None  # (images, targets) that it was first trained on, on the device
        self.test_logits: list[Tensor] = []  # [N,K] of each batch of the last test, on the device

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_current_fx_name":  # which Lightning sets 47 times a step: 0.14 ms by way of nn.Module's check
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor:
        """images, uint8 [N,3,H,W] -> logits [N,K]. Raises ValueError for others, which would be normalised twice."""
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images have to be uint8 [N,3,H,W], not {images.dtype} {list(images.shape)}")
        return self.net(self.normalize(images))

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [N,3,H,W] -> float32 of mean 0 and deviation 1 over the dataset."""
        return self._standardize(images).contiguous(memory_format=self.memory_format)

    def _standardize(self, images: Tensor) -> Tensor:
        return images.float().mul_(1 / self.std).sub_(self.mean / self.std)  # a product is faster than a quotient

    def augment(self, images: Tensor, labels: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """uint8 images and labels -> normalised float images [N,3,H,W] and soft targets [N,K].

        What a training batch goes through, without the seeds of its draws.
        """
        return self.finish(*self._change_pixels(images, labels, epoch, self.global_step))

    def prepare(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """The part of `augment` that is done for several batches at once, the first of which is that of `step`.

        uint8 images and labels -> uint8 images and soft targets.
        """
        reseed(self.seed, -1 - step)  # training_step has the seeds of the steps from 0 on
        return self._change_pixels(images, labels, epoch, step)

    def at_step(self, step: int, side: int) -> tuple[int, Ingredients]:
        """The side of the images that the net is trained on at a step, in pixels, of `side`; the ingredients then."""
        return self.ingredients.at_phase(self.phase(step), side)

    def phase(self, step: int) -> float:
        """Where the phase of a step begins, a share of the run."""
        if self.only_phase is not None:
            return self.only_phase
        return self.starts[bisect_right(self.starts, step / self.plan.steps) - 1]

    def _change_pixels(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        _, ingredients = self.at_step(step, images.shape[-1])
        targets = (labels[:, None] == torch.arange(self.num_classes, device=labels.device)).float()
        for transform in ingredients.at("source"):
            images = transform(images, epoch, self.seed)
        for transform in ingredients.at("pixels"):
            images, targets = transform(images, targets)
        return images, targets

    def finish(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images and soft targets -> normalised float images and soft targets.

        Where a recipe has several `mixed` transforms the batch is turned by a random number of places and cut into one
        part for each, so that neighbours stay neighbours.
        """
        side, ingredients = self.at_step(self.global_step, images.shape[-1])
        mixers = ingredients.at("mixed")
        if len(mixers) > 1:
            places = torch.arange(len(images), device=images.device)
            order = (places + torch.randint(len(images), (1,), device=images.device)) % len(images)
            images, targets = images.index_select(0, order), targets[order]
        images = self._standardize(images)  # NCHW up to the end: on a CPU broadcasting over inner channels is slow
        for transform in ingredients.at("normalized"):
            images, targets = transform(images, targets)
        for transform in ingredients.at("targets"):
            targets = transform(targets)
        if mixers:
            parts = zip(mixers, images.tensor_split(len(mixers)), targets.tensor_split(len(mixers)), strict=True)
            images, targets = map(torch.cat, zip(*(mixer(*part) for mixer, *part in parts), strict=True))
        if side != images.shape[-1]:
            images = nn.functional.interpolate(images, side, mode="bilinear", antialias=True)
        return images.contiguous(memory_format=self.memory_format), targets

    def setup(self, stage: str) -> None:
        if stage == "fit":  # before the optimizer is made
            self._regularize(self.global_step)

    def _regularize(self, step: int) -> None:
        for regularizer in self.at_step(step, 1)[1].regularizers:
            regularizer(self.net)
        self.regularized_phase = self.phase(step)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        reseed(self.seed, self.global_step)
        if self.global_step % LOG_EVERY == 0:
            self.train_loss.zero_()
        if self.phase(self.global_step) != self.regularized_phase:
            self._regularize(self.global_step)
        images, targets = self.finish(*batch)
        if self.first_batch is None:
            self.first_batch = images[:SHOWN].clone(), targets[:SHOWN].clone()
        loss = self.ingredients.loss(self.net(images), targets)
        self.train_loss += loss.detach()
        if (self.global_step + 1) % LOG_EVERY == 0:
            mean = self._mean_loss(self.global_step + 1)
            rate = self.optimizers().param_groups[0]["lr"]
            self.log_dict({"train/loss": mean, "lr": rate, "step": float(self.global_step + 1)})
        return loss

    def on_train_end(self) -> None:
        if self.global_step:
            self._mean_loss(self.global_step)

    def _mean_loss(self, step: int) -> float:
        """Of the steps since the last log. Raises FloatingPointError when it is not a number."""
        steps = (step - 1) % LOG_EVERY + 1
        mean = self.train_loss.item() / steps
        if not math.isfinite(mean):
            raise FloatingPointError(f"the training loss is {mean} within steps {step - steps + 1} to {step}")
        return mean

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def on_test_epoch_start(self) -> None:
        self.test_logits = []

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.test_logits.append(self._evaluate("test", batch))

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = self(images).float()
        metrics = self.metrics[split]
        metrics["acc"].update(logits, labels)
        metrics["loss"].update(nn.functional.cross_entropy(logits, labels), weight=len(labels))
        self.log_dict(metrics, on_step=False, on_epoch=True)
        if self.ingredients.tta and self.trainer.state.fn != TrainerFn.FITTING:
            views = self.ingredients.tta(lambda shown: logits if shown is images else self(shown), images)
            self.acc_tta.update(views, labels)
            self.log(f"{split}/acc_tta", self.acc_tta, on_step=False, on_epoch=True)
        self.log("step", float(self.global_step), on_step=False, on_epoch=True)
        return logits

    def configure_callbacks(self) -> list[pl.Callback]:
        return [callback.callback(self.plan.steps) for callback in self.ingredients.callbacks]

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        # Lightning refuses to clip for fused optimizers under autocast; bf16 has no scaled gradients to undo
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.net.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> dict:
        optimizer = self.ingredients.optimizer(parameter_groups(self.net, self.plan.weight_decay), self.plan.lr)
        schedule, steps, epochs = self.ingredients.schedule, self.plan.steps, self.plan.epochs
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule(min((step + 1) / steps, 1.0), epochs)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def reseed(seed: int, step: int) -> None:
    """Seeds the generators for the draws of one step."""
    mixed = draw_seed(seed, step)
    torch.default_generator.manual_seed(mixed)  # torch.manual_seed takes 80 us where CUDA could be, but is not used
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(mixed)


def draw_seed(seed: int, step: int) -> int:
    """The generator's seed for one step: a mix of the run's seed and the step (Steele 2014, SplitMix64).

    64 bits, of which torch's CPU generator uses the lower 32.
    """
    z = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)
