"""simulate_verdicts.py: seeds of records, and rates of verdicts."""

import json
import sys

import numpy as np
import pytest
import simulate_verdicts
from scipy import stats


@pytest.fixture
def files(tmp_path):
    """A folder of three records, and a bench with arms of four, three and two seeds."""
    run = tmp_path / "run"
    run.mkdir()
    for seed, accuracy in enumerate((0.90, 0.91, 0.95)):
        (run / f"seed{seed}.json").write_text(json.dumps({"metrics": {"test/acc": accuracy}}))
    accuracies = {("a", 2): (0.5, 0.6, 0.7, 0.6), ("a", 10): (0.7, 0.8, 0.9), ("b", 2): (0.1, 0.2)}
    rows = [
        {"arm": arm, "epochs": epochs, "val_acc": accuracy}
        for (arm, epochs), values in accuracies.items()
        for accuracy in values
    ]
    bench = tmp_path / "bench.jsonl"
    bench.write_text("\n".join(map(json.dumps, rows)))
    return [*sorted(run.glob("*.json")), bench]


def test_pools_are_arms_of_three_seeds_and_more(files):
    pools = simulate_verdicts.read_pools(files)
    assert list(pools.values()) == [[0.90, 0.91, 0.95], [0.5, 0.6, 0.7, 0.6], [0.7, 0.8, 0.9]]
    assert list(pools)[1:] == ["bench a 2", "bench a 10"]


def test_residuals_have_the_spread_of_their_pool():
    pools = {"a": [1.0, 2.0, 3.0], "b": [10.0, 30.0, 20.0]}
    real = simulate_verdicts.residuals(pools, one_spread=False)
    assert real.std(ddof=1) == pytest.approx(1) and real[3] / real[0] == pytest.approx(10)
    assert simulate_verdicts.residuals(pools, one_spread=True) == pytest.approx(
        np.array([-1, 0, 1, -1, 1, 0]) / 0.8**0.5
    )


def test_runs_are_drawn_without_replacement_where_there_are_enough():
    draw = simulate_verdicts.draws_of(np.arange(6.0), np.random.default_rng(0))
    assert sorted(draw(6)) == list(range(6)) and len(draw(7)) == 7


def test_rate_has_clopper_and_pearsons_interval():
    low, high = stats.binomtest(7, 50).proportion_ci(method="exact")
    assert simulate_verdicts.rate((7, 50)) == f".140 [{low:.3f}, {high:.3f}]".replace("0.", ".")
    assert (
        simulate_verdicts.rate((0, 4)) == ".000 [.000, .602]"
        and simulate_verdicts.rate((4, 4)) == "1.000 [.398, 1.000]"
    )
    assert simulate_verdicts.rate("3") == "3"


def test_tables(files, monkeypatch, capsys):
    words = [*map(str, files), "--studies", "3", "--arms", "1", "--seeds", "3"]
    monkeypatch.setattr(sys, "argv", ["simulate_verdicts.py", *words])
    simulate_verdicts.main()
    first, blank, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("10 runs of 3 pools, std in points: ") and "bench a 2 4 (std 8.16)" in first and not blank
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line]
    assert cells[0] == [
        "runs",
        "arms",
        "seeds",
        "any arm",
        "one arm",
        "any pair",
        "carries over",
        "does not",
        "spreads differ",
    ]
    assert [row[0] for row in cells[2:5]] == ["real", "one-spread", "normal"]
    # two arms, a study has one difference: the same rate by study and by arm
    assert all(row[3] == row[4] for row in cells[2:5])
    # R: power.t.test(n = 3, power = 0.8): 3.07
    assert cells[5][3:5] == ["planned, std", "better, planned"] and cells[7][3] == "3.07"


def test_rates_of_normal_runs_are_the_nominal_ones():
    counts = simulate_verdicts.simulate(np.random.default_rng(0).standard_normal, 1, 4, 400)
    wrong, studies = counts["any arm"]
    assert studies == 400 and stats.binom.cdf(wrong, 400, 0.05) > 1e-3 and stats.binom.sf(wrong, 400, 0.05) > 1e-3
    found = simulate_verdicts.simulate_difference(np.random.default_rng(0).standard_normal, 1, 6, 200)
    better, studies = found["better, planned"]
    assert stats.binom.cdf(better, studies, 0.8) > 1e-3 and stats.binom.sf(better, studies, 0.8) > 1e-3


def test_without_a_pool_it_stops(files, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["simulate_verdicts.py", str(files[0])])
    with pytest.raises(SystemExit) as stop:
        simulate_verdicts.main()
    assert stop.value.code == 2 and "must hold an arm with at least 3 seeds" in capsys.readouterr().err
