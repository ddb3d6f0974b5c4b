"""Muon: orthogonalised momentum for matrices, with a fallback optimizer for everything else."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from minuteloop.validation import ConfigError, choice, integer, number

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, chosen for its slope at zero (Jordan 2024b)


@dataclass
class Muon:
    """Muon on the matrices, SGD or AdamW on the classifier, depthwise filters, biases and norms (Jordan 2024b).

    A convolution is the matrix [out, in * k * k]. Its update is the momentum's nearest orthogonal matrix, by
    `ns_steps` of Newton-Schulz, times sqrt(max(1, rows / columns)). With `renormalise` a matrix is first scaled to
    the norm sqrt(rows), which then needs no weight decay. All rates follow the schedule; the fallback's three are those
    of the mean loss of a batch.
    """

    lr: float = number(0.1, 0, 10, "a learning rate")
    momentum: float = number(0.6, 0, 1, "a share")
    ns_steps: int = integer(3, 1, 100, "a whole number of at least 1")
    renormalise: bool = True
    fallback: str = choice("sgd", "adamw", help="")
    fallback_momentum: float = number(0.85, 0, 1, "a share")  # SGD's, with Nesterov; AdamW's first beta
    head_lr: float = number(1.0, 0, 1e6, "a learning rate")
    depthwise_lr: float = number(1.0, 0, 1e6, "a learning rate")
    bias_lr: float = number(1.0, 0, 1e6, "a learning rate")  # of biases, norms and layer scales

    def __post_init__(self) -> None:
        if not 0 < self.fallback_momentum < 1:
            raise ConfigError(f"fallback_momentum={self.fallback_momentum}, not a share between 0 and 1")

    def auto_lr(self, batch_size: int, epochs: float) -> float:
        """The matrices' peak learning rate; neither the batch size nor the planned epochs matter."""
        return self.lr

    def __call__(self, groups, lr: float):
        """groups: those of `optimizer.parameter_groups` -> torch.optim.Optimizer."""
        import torch

        rates = {"head": self.head_lr, "depthwise": self.depthwise_lr, "no_decay": self.bias_lr}
        matrices = [group | {"lr": lr} for group in groups if group["name"] == "matrix"]
        others = [group | {"lr": rates[group["name"]]} for group in groups if group["name"] != "matrix"]
        if self.fallback == "sgd":
            fallback = torch.optim.SGD(others, momentum=self.fallback_momentum, nesterov=True, fused=True)
        else:
            fallback = torch.optim.AdamW(others, betas=(self.fallback_momentum, 0.999), fused=True)
        return _optimizer()(matrices, fallback, self.momentum, self.ns_steps, self.renormalise)


def _optimizer():
    import torch

    class MuonWithPartner(torch.optim.Optimizer):
        """One optimizer over `matrices` and the groups of `fallback`, whose state it shares."""

        def __init__(self, matrices, fallback, momentum: float, ns_steps: int, renormalise: bool) -> None:
            super().__init__(matrices, {"momentum": momentum, "weight_decay": 0.0})
            self.fallback, self.ns_steps, self.renormalise = fallback, ns_steps, renormalise
            self.param_groups += fallback.param_groups

        @torch.no_grad()
        def step(self, closure=None):
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            matrices = [group for group in self.param_groups if group["name"] == "matrix"]
            # loading a checkpoint replaces the state and the groups
            self.fallback.state = self.state
            self.fallback.param_groups = [group for group in self.param_groups if group["name"] != "matrix"]
            self.fallback.step()
            for group in matrices:
                self._step(group)
            return loss

        def _step(self, group) -> None:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                return
            gradients = [parameter.grad for parameter in parameters]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, gradients)
            nesterov = torch._foreach_add(gradients, buffers, alpha=group["momentum"])
            if self.renormalise:
                norms = torch._foreach_norm(parameters)
                torch._foreach_mul_(
                    parameters, [len(p) ** 0.5 / norm for p, norm in zip(parameters, norms, strict=True)]
                )
            elif group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            alike = defaultdict(list)  # short side -> those that are orthogonalised together
            for parameter, update in zip(parameters, nesterov, strict=True):
                matrix = update.flatten(1)
                wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
                alike[len(wide)].append((parameter, wide))
            for pairs in alike.values():
                longest = max(wide.shape[1] for _, wide in pairs)
                stacked = pairs[0][1].new_zeros(len(pairs), len(pairs[0][1]), longest, dtype=torch.bfloat16)
                for row, (_, wide) in zip(stacked, pairs, strict=True):
                    row[:, : wide.shape[1]] = wide  # the other columns are 0 and stay so
                for (parameter, wide), move in zip(pairs, orthogonalise(stacked, self.ns_steps), strict=True):
                    rows, columns = parameter.flatten(1).shape
                    move = move[:, : wide.shape[1]] if rows <= columns else move[:, : wide.shape[1]].mT
                    parameter.add_(move.reshape(parameter.shape), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    return MuonWithPartner


def orthogonalise(matrices, ns_steps: int):
    """[n, rows, columns], no more rows than columns -> about the nearest orthogonal matrix of each: singular values
    near 1, by a quintic Newton-Schulz iteration in bfloat16 (Jordan 2024b)."""
    import torch

    a, b, c = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ns_steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
