"""Losses over soft targets."""

from dataclasses import dataclass
from typing import Any

from minuteloop.validation import number


@dataclass
class CrossEntropy:
    """Mean cross-entropy over soft targets, which mixing and label smoothing produce."""

    def __call__(self, logits, targets):
        """Return the loss of logits [N,K] for targets [N,K], whose rows sum to 1: a scalar, in nats."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), targets)


@dataclass
class BinaryCrossEntropy:
    """Binary cross-entropy of each class, averaged over images and classes (Wightman 2021, sec. 2.1).

    With `threshold`, targets above it become 1 and all others 0, so that both classes of a mixed image are present.
    """

    threshold: Any = number(None, 0, 1, "targets above it count as 1, all others as 0", allow=(None,))

    def __call__(self, logits, targets):
        """Return the loss of logits [N,K] for targets [N,K] in [0, 1]: a scalar, in nats."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        if self.threshold is not None:
            targets = (targets > self.threshold).float()
        return binary_cross_entropy_with_logits(logits.float(), targets)
