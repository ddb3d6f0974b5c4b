"""Random subsets of a batch: probabilities of the draws, and which rows change."""

import math

import pytest
import torch

from minuteloop.recipe.augment.ops.subsets import draw_subsets, gather_rows, scatter_rows


@pytest.mark.parametrize(
    ("n", "unit", "weights"),
    [
        (1, 0.5 / 30, [2, 1]),
        (7, 0.25, [1]),
        (7, 0.4, [1]),
        (30, 1 / 14, [1, 2, 1]),
        (5, 1.0, [1]),
        (10, 0.35 / 30, [2] * 15),
    ],
)
def test_each_row_is_in_a_subset_with_its_probability(n, unit, weights):
    trials, hits = 6000, torch.zeros(len(weights), n + 1)
    for _ in range(trials):
        rows, sizes = draw_subsets(n, unit, weights, "cpu")
        images = rows[rows < n]
        assert len(images) == len(images.unique()) and sum(sizes) == len(rows)
        for subset, members in enumerate(rows.split(sizes)):
            hits[subset].index_add_(0, members, torch.ones(len(members)))
    for subset, weight in enumerate(weights):
        prob = unit * weight
        limit = 4.5 * math.sqrt(trials * prob * (1 - prob))
        assert all(abs(count - trials * prob) <= limit for count in hits[subset, :n].tolist())


def test_worked_examples_of_the_docstring():
    rows, sizes = draw_subsets(7, 0.25, [1], "cpu")
    assert sizes == [2] and len(rows) == 2 and rows.max() <= 7
    blanks = torch.stack([(draw_subsets(7, 0.4, [1], "cpu")[0] == 7).any() for _ in range(4000)])
    assert blanks.float().mean().item() == pytest.approx((1 - 7 * (8 / 7.5 - 1)) * 3 / 8, abs=0.03)  # of 8 candidates


def test_scatter_rows_changes_only_the_drawn_rows(sample):
    images = sample[:20]
    rows, _ = draw_subsets(20, 0.3, [1], "cpu")
    assert torch.equal(scatter_rows(images, rows, gather_rows(images, rows)), images)
    blank = scatter_rows(images, rows, torch.zeros_like(gather_rows(images, rows)))
    untouched = [row for row in range(20) if row not in rows.tolist()]
    assert torch.equal(blank[untouched], images[untouched]) and not blank[rows[rows < 20]].any()
