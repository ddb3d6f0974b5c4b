"""The LightningModule: a net, the ingredients of a recipe and the frozen plan."""

import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from minuteloop.data.cifar import Images
from minuteloop.recipe.augment.pipeline import AugmentPipeline
from minuteloop.recipe.augment.random_seed import reseed
from minuteloop.recipe.callbacks.ema_callback import EMACallback, load_averages
from minuteloop.recipe.ingredients import Ingredients
from minuteloop.recipe.param_groups import parameter_groups
from minuteloop.training.plan import Plan

log = logging.getLogger("minuteloop")


class Part(NamedTuple):
    """The part of an optimizer step's images that one call of `training_step` trains on."""

    micro_batch: int  # index of the batch in the step
    micro_batches: int  # batches of the step: Trainer(accumulate_grad_batches)
    process: int  # rank
    processes: int  # that share a batch: Trainer(devices, num_nodes)


class Classifier(pl.LightningModule):
    """Trains `net` on batches of `pipeline`, which augments them on their device.

    In training a batch has been through `pipeline.chunk` (see CIFARDataModule): uint8 images [N,3,H,W] and soft targets
    [N,K]. In evaluation it is uint8 images and labels int64 [N]. Every draw is a function of (seed, step).

    In distributed training each process gets the same batch, augments all of it with the same draws, so that it mixes
    with itself, and trains on its slice; dropout and drop path draw separately in each process. Every process evaluates
    all images. With gradient accumulation, each batch of a step has draws of its own.

    `ingredients` are those of the plan's strength. With `only_phase` all steps belong to the phase of the recipe that
    starts there (a fraction of the run), to measure it: the loss may then be anything.

    The training loss and the learning rate are logged every `trainer.log_every_n_steps` steps. A logged loss and, after
    an evaluation during training, a validation loss that is not finite raises FloatingPointError.
    """

    _ddp_params_and_buffers_to_ignore = ("train_loss",)  # read by torch; other buffers are copied from rank 0

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
        self.net, self.ingredients, self.plan, self.seed = net, ingredients, plan, seed
        self.log_every, self.is_measured = plan.log_every, only_phase is not None
        num_classes = len(dataset.classes)
        self.pipeline = AugmentPipeline(
            ingredients,
            mean=dataset.mean,
            std=dataset.std,
            num_classes=num_classes,
            steps=plan.steps,
            seed=seed,
            channels_last=channels_last,
            only_phase=only_phase,
        )
        self.net.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        self.regularized_phase = 0.0  # the phase that the net's regularizers are set for
        # each process evaluates all images
        accuracy = {"average": "micro", "validate_args": False, "sync_on_compute": False}
        metrics = MetricCollection(
            {
                "acc": MulticlassAccuracy(num_classes, **accuracy),
                "loss": MeanMetric(nan_strategy="disable", sync_on_compute=False),
            },
            compute_groups=False,
        )
        self.metrics = nn.ModuleDict({split: metrics.clone(prefix=f"{split}/") for split in ("val", "test")})
        self.acc_tta = MulticlassAccuracy(num_classes, **accuracy)
        self.register_buffer("train_loss", torch.zeros(()))  # sum over the steps since the last log
        self.logits: dict[str, list[Tensor]] = {}  # [N,K] of each batch of a split's last evaluation, on the device

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_current_fx_name":  # Lightning sets it 47 times a step: 0.14 ms less without nn.Module's checks
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N,K] of uint8 images [N,3,H,W]; ValueError for others: they would be normalized twice."""
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"images must be a uint8 tensor [N,3,H,W], got {images.dtype} {list(images.shape)}")
        return self.net(self.pipeline.normalize(images))

    def phase(self, step: int) -> float:
        """Return where the recipe's phase of `step` starts, as a fraction of the run."""
        return self.pipeline.phase(step)

    def setup(self, stage: str) -> None:
        self.set_regularizers(self.global_step)  # before the optimizer is made; evaluation needs batch norm's eps
        if stage == "fit":
            self._check_batch_size()
            self.log_every = self.trainer.log_every_n_steps or self.plan.steps  # 0: Lightning logs nothing

    def _check_batch_size(self) -> None:
        """Log a warning where the trainer takes other batches than those that the plan counts."""
        batch_size = getattr(getattr(self.trainer, "datamodule", None), "batch_size", self.plan.batch_size)
        accumulate = self.trainer.accumulate_grad_batches
        if batch_size * accumulate != self.plan.batch_size:
            log.warning(
                f"a step trains on {accumulate} x {batch_size} images, but the plan counts steps of "
                f"{self.plan.batch_size}: its epochs, lr and strength do not hold; "
                f"use parts.plan(accumulate_grad_batches={accumulate})"
            )

    def set_regularizers(self, step: int) -> None:
        """Set the net's regularizers for the phase of a step."""
        for regularizer in self.pipeline.at_step(step, 1)[1].regularizers.values():
            regularizer(self.net)
        self.regularized_phase = self.phase(step)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        step, part = self.global_step, self._part(batch_idx)
        if batch[1].ndim != 2:
            raise ValueError(
                "targets must be soft, [N,K]: make the data with CIFARDataModule(..., pipeline=module.pipeline)"
            )
        reseed(self.seed, step, part.micro_batch)
        if step % self.log_every == 0 and part.micro_batch == 0:
            self.train_loss.zero_()
        if self.phase(step) != self.regularized_phase:
            self.set_regularizers(step)
        images, targets = self.pipeline.batch(*batch, step)
        if part.processes > 1:
            images, targets = (tensor.tensor_split(part.processes)[part.process] for tensor in (images, targets))
            reseed(self.seed, step, part.micro_batch, stream=1 + part.process)  # the net's draws
        loss = self.ingredients.loss(self.net(images), targets)
        self.train_loss.add_(loss.detach(), alpha=1 / part.micro_batches)
        if (step + 1) % self.log_every == 0 and part.micro_batch + 1 == part.micro_batches:
            lr = self.optimizers().param_groups[0]["lr"]
            self.log_dict({"train/loss": self._mean_loss(step + 1), "lr": lr, "step": float(step + 1)})
        return loss

    def _part(self, batch_idx: int) -> Part:
        trainer = self._trainer
        if trainer is None:
            return Part(0, 1, 0, 1)
        micro_batch, accumulate = batch_idx % trainer.accumulate_grad_batches, trainer.accumulate_grad_batches
        if accumulate > 1:  # limit_train_batches may end an epoch within a step
            accumulate = min(accumulate, trainer.num_training_batches - batch_idx + micro_batch)
        return Part(micro_batch, accumulate, trainer.global_rank, trainer.world_size)

    def on_train_end(self) -> None:
        if self.global_step % self.log_every:  # steps since the last log
            self._mean_loss(self.global_step)

    def _mean_loss(self, step: int) -> float:
        """Return the mean since the last log. Raises FloatingPointError if it is not finite."""
        steps = (step - 1) % self.log_every + 1
        if self.trainer.world_size > 1:
            self.trainer.strategy.reduce(self.train_loss, reduce_op="mean")  # over processes, in place
        mean = self.train_loss.item() / steps
        if not (math.isfinite(mean) or self.is_measured):
            where = f"steps {step - steps + 1} to {step}" if steps > 1 else f"step {step}"
            raise FloatingPointError(f"training loss is {mean} in {where}; lower recipe.lr")
        return mean

    def on_validation_epoch_start(self) -> None:
        self.logits["val"] = []

    def on_validation_end(self) -> None:
        # Lightning has logged it by now
        loss = self.trainer.callback_metrics.get("val/loss") if self.trainer.state.fn == TrainerFn.FITTING else None
        if loss is not None and not math.isfinite(loss):
            raise FloatingPointError(f"val/loss is {loss:g} after step {self.global_step}; lower recipe.lr")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the logits of a batch: float32 [N,K]."""
        images, _ = batch
        return self(images).float()

    def on_test_epoch_start(self) -> None:
        self.logits["test"] = []

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self(images).float()
        self.logits[split].append(logits)
        metrics = self.metrics[split]
        metrics["acc"].update(logits, labels)
        metrics["loss"].update(nn.functional.cross_entropy(logits, labels), weight=len(labels))
        self.log_dict(metrics, on_step=False, on_epoch=True)
        if self.ingredients.tta and self.trainer.state.fn != TrainerFn.FITTING:
            averaged = self.ingredients.tta(lambda view: logits if view is images else self(view), images)
            self.acc_tta.update(averaged, labels)
            self.log(f"{split}/acc_tta", self.acc_tta, on_step=False, on_epoch=True)
        self.log("step", float(self.global_step), on_step=False, on_epoch=True, sync_dist=True)

    def configure_callbacks(self) -> list[pl.Callback]:
        return [callback.callback(self.plan.steps) for callback in self.ingredients.callbacks.values()]

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Save the mean training loss of all processes, and the weights and averages of EMA in their places."""
        if self.trainer.world_size > 1:
            loss = self.trainer.strategy.reduce(self.train_loss.clone(), reduce_op="mean")
            checkpoint["state_dict"]["train_loss"] = loss
        for callback in self.trainer.callbacks:
            if isinstance(callback, EMACallback):
                callback.write_to(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Load the averages of EMA in place of the weights, unless training continues."""
        if self._trainer is None or self._trainer.state.fn != TrainerFn.FITTING:
            ema = checkpoint.get("callbacks", {}).get(EMACallback.__qualname__, {})
            load_averages(checkpoint["state_dict"], ema.pop("averages", []))

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer, optimizer_closure: Callable | None = None) -> None:
        """Step; in precision 16-mixed, gradients are unscaled before callbacks see them and before they are clipped.

        Lightning leaves this to an optimizer that unscales in its step, as fused ones do.
        """
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):

            def closure():
                loss = optimizer_closure()
                scaler.unscale_(optimizer.optimizer)
                return loss

            return super().optimizer_step(epoch, batch_idx, optimizer, closure)
        return super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        # Lightning rejects clipping for fused optimizers under autocast
        if gradient_clip_val:
            clip = nn.utils.clip_grad_value_ if gradient_clip_algorithm == "value" else nn.utils.clip_grad_norm_
            clip(self.net.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> dict:
        optimizer = self.ingredients.optimizer(parameter_groups(self.net, self.plan.weight_decay), self.plan.lr)
        schedule, steps, epochs = self.ingredients.schedule, self.plan.steps, self.plan.epochs
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule(min((step + 1) / steps, 1.0), epochs)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
