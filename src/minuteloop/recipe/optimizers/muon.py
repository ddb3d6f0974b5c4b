"""Muon: orthogonalized momentum for matrices, with a fallback optimizer for all other parameters."""

from dataclasses import dataclass

from minuteloop.validation import choice, custom, integer, number, setting


@dataclass
class Muon:
    """Muon on the matrices; SGD or AdamW on the head, depthwise filters, biases and norms (Jordan 2024b).

    A convolution counts as the matrix [out, in * k * k]. Its update is the momentum, orthogonalized by `ns_steps`
    iterations of Newton-Schulz, times sqrt(max(1, rows / columns)). With `renormalise`, each matrix is scaled to norm
    sqrt(rows) before the step, and weight decay acts on the head and on depthwise filters only. All learning rates
    follow the schedule, and `recipe.lr` scales those of the fallback optimizer with that of the matrices. They are for
    the mean loss of a batch.
    """

    base_lr: float = number(0.1, 1e-9, 10, "learning rate of the matrices; recipe.lr scales the other rates with it")
    weight_decay: float = number(
        *(5e-4, 0, 1e6),
        "of head and depthwise filters; of matrices only without renormalise",
    )
    momentum: float = number(0.6, 0, 1, "momentum of the matrices")
    ns_steps: int = integer(3, 1, 100, "Newton-Schulz iterations per step")
    renormalise: bool = setting(True, "scale each matrix to norm sqrt(rows), in place of weight decay")
    fallback: str = choice("sgd", "adamw", help="optimizer of all other parameters")
    fallback_momentum: float = custom(
        0.85,
        lambda value: 0 < value < 1,
        "must be a number in (0, 1)",
        "SGD's Nesterov momentum, or AdamW's first beta",
    )
    head_lr: float = number(1.0, 0, 1e6, "learning rate of the head where that of the matrices is base_lr")
    depthwise_lr: float = number(1.0, 0, 1e6, "learning rate of depthwise filters, likewise")
    bias_lr: float = number(1.0, 0, 1e6, "learning rate of biases, norms and layer scales, likewise")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """Return the peak learning rate of the matrices; neither batch size nor planned epochs matter."""
        return self.base_lr

    def __call__(self, groups, lr: float):
        """Build the optimizer over the groups of `param_groups.parameter_groups`."""
        import torch

        from minuteloop.recipe.optimizers.muon_optimizer import MuonWithFallback

        rates = {"head": self.head_lr, "depthwise": self.depthwise_lr, "no_decay": self.bias_lr}
        scale = lr / self.base_lr
        matrices = [group | {"lr": lr} for group in groups if group["name"] == "matrix"]
        others = [group | {"lr": rates[group["name"]] * scale} for group in groups if group["name"] != "matrix"]
        if self.fallback == "sgd":
            fallback = torch.optim.SGD(others, momentum=self.fallback_momentum, nesterov=True, fused=True)
        else:
            fallback = torch.optim.AdamW(others, betas=(self.fallback_momentum, 0.999), fused=True)
        return MuonWithFallback(matrices, fallback, self.momentum, self.ns_steps, self.renormalise)
