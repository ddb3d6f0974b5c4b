"""Newton-Schulz iteration: orthogonalize matrices with products only."""

from torch import Tensor, baddbmm

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, chosen for its slope at zero (Jordan 2024b)


def orthogonalize(matrices: Tensor, steps: int) -> Tensor:
    """Return approximately the nearest orthogonal matrix of each of [n, rows, columns], rows <= columns.

    Singular values end near 1. The quintic iteration runs in the dtype of `matrices`, bfloat16 for Muon (Jordan 2024b).
    """
    a, b, c = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = baddbmm(x, baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
