"""The torch optimizer of Muon."""

from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from minuteloop.recipe.optimizers.newton_schulz import orthogonalize


class MuonWithFallback(Optimizer):
    """One optimizer over `matrices`, groups named matrix, and the groups of `fallback`, whose state it shares."""

    def __init__(
        self, matrices: list[dict], fallback: Optimizer, momentum: float, ns_steps: int, renormalise: bool
    ) -> None:
        super().__init__(matrices, {"momentum": momentum, "weight_decay": 0.0})
        self.fallback, self.ns_steps, self.renormalise = fallback, ns_steps, renormalise
        self.param_groups += fallback.param_groups

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        """Update all groups once."""
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
            self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict) -> None:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not parameters:
            return
        updates = self._nesterov_momentum(parameters, group["momentum"])
        if self.renormalise:
            norms = torch._foreach_norm(parameters)
            torch._foreach_mul_(parameters, [len(p) ** 0.5 / norm for p, norm in zip(parameters, norms, strict=True)])
        elif group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for parameter, update in self._orthogonal(parameters, updates):
            rows, columns = parameter.flatten(1).shape
            parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _nesterov_momentum(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        return torch._foreach_add(gradients, buffers, alpha=momentum)

    def _orthogonal(self, parameters: list[Tensor], updates: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (parameter, orthogonalized update). Matrices with the same shorter side are stacked."""
        stacks = defaultdict(list)  # shorter side -> (parameter, update with rows <= columns)
        for parameter, update in zip(parameters, updates, strict=True):
            matrix = update.flatten(1)
            wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
            stacks[len(wide)].append((parameter, wide))
        for rows, pairs in stacks.items():
            columns = max(wide.shape[1] for _, wide in pairs)
            stack = pairs[0][1].new_zeros(len(pairs), rows, columns, dtype=torch.bfloat16)
            for matrix, (_, wide) in zip(stack, pairs, strict=True):
                matrix[:, : wide.shape[1]] = wide  # the other columns are 0 and stay 0
            for (parameter, wide), update in zip(pairs, orthogonalize(stack, self.ns_steps), strict=True):
                update = update[:, : wide.shape[1]]
                yield parameter, update.mT if len(parameter) > rows else update
