"""The LightningModule: a net, the ingredients of a recipe and the plan that they have to fit."""

import math

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from minuteloop.data.cifar import Images
from minuteloop.plan import Plan
from minuteloop.recipe import Ingredients
from minuteloop.recipe.optimizer import parameter_groups

LOG_EVERY = 50  # steps; between them nothing waits for the device
SHOWN = 32  # images of the first batch that are kept, for a picture


class Classifier(pl.LightningModule):
    """Trains `net` on uint8 images; batches are augmented on their device, each sample with its own draws.

    A batch is (images uint8 [N,3,H,W], labels int64 [N]). Every draw of a step is a function of (seed, step).
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
    ) -> None:
        super().__init__()
        self.net, self.ingredients, self.plan = net, ingredients, plan
        self.num_classes, self.seed = len(dataset.classes), seed
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
        self.train_loss = None  # sum over the steps since the last log, on the device
        self.first_batch = None  # (images, targets) that it was first trained on, on the device
        self.test_logits: list[Tensor] = []  # [N,K] of each batch of the last test, on the device

    def forward(self, images: Tensor) -> Tensor:
        """images, uint8 [N,3,H,W] -> logits [N,K]."""
        return self.net(self.normalize(images))

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [N,3,H,W] -> float32 of mean 0 and deviation 1 over the dataset."""
        return ((images - self.mean) / self.std).contiguous(memory_format=self.memory_format)

    def augment(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images and labels -> normalised float images [N,3,H,W] and soft targets [N,K]."""
        targets = nn.functional.one_hot(labels, self.num_classes).float()
        for transform in self.ingredients.at("pixels"):
            images, targets = transform(images, targets)
        images = self.normalize(images)
        for transform in self.ingredients.at("normalized"):
            images, targets = transform(images, targets)
        for transform in self.ingredients.at("targets"):
            targets = transform(targets)
        if mixers := self.ingredients.at("mixed"):
            turn = torch.randint(len(mixers), (len(images),), device=images.device)
            mixed, soft = images, targets
            for index, transform in enumerate(mixers):
                more, softer = transform(images, targets)
                mixed = torch.where((turn == index).view(-1, 1, 1, 1), more, mixed)
                soft = torch.where((turn == index).view(-1, 1), softer, soft)
            images, targets = mixed, soft
        return images, targets

    def on_train_start(self) -> None:
        for regularizer in self.ingredients.regularizers:
            regularizer(self.net)
        self.train_loss = torch.zeros((), device=self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        torch.manual_seed(draw_seed(self.seed, self.global_step))
        images, targets = self.augment(*batch)
        if self.first_batch is None:
            self.first_batch = images[:SHOWN].clone(), targets[:SHOWN].clone()
        loss = self.ingredients.loss(self.net(images), targets)
        self.train_loss += loss.detach()
        step = self.global_step + 1
        if step % LOG_EVERY == 0:
            mean = self.train_loss.item() / LOG_EVERY
            if not math.isfinite(mean):
                raise FloatingPointError(f"the training loss is {mean} within steps {step - LOG_EVERY + 1} to {step}")
            rate = self.optimizers().param_groups[0]["lr"]
            self.log_dict({"train/loss": mean, "lr": rate, "step": float(step)})
            self.train_loss.zero_()
        return loss

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


def draw_seed(seed: int, step: int) -> int:
    """The generator's seed for one step: a mix of the run's seed and the step (Steele 2014, SplitMix64).

    64 bits, of which torch's CPU generator uses the lower 32.
    """
    z = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)
