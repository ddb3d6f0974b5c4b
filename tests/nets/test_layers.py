"""Position embeddings, gains and drop path."""

import pytest
import torch
import torch._dynamo.testing

from minuteloop.arch_schema import Arch, Block, Size
from minuteloop.nets.attention import Positions
from minuteloop.nets.layers import DropPath, build
from minuteloop.nets.net import build_net
from minuteloop.nets.program import ACT_TOKENS, GAINS, parse
from minuteloop.nets.spec import resolve


def test_positions_are_interpolated_to_other_resolutions():
    """Interpolation keeps a linear ramp linear."""
    torch.manual_seed(0)
    positions = Positions(2, 4)
    ramp = torch.arange(4.0).view(1, 4).expand(4, 4)
    positions.values.data = torch.stack([ramp, ramp.T]).flatten()
    x = torch.zeros(1, 2, 8, 8)
    added = positions(x)[0]
    assert torch.equal(positions(torch.zeros(1, 2, 4, 4))[0], torch.stack([ramp, ramp.T]))
    torch.testing.assert_close(added[0, 4, 3:5], torch.tensor([1.25, 1.75]))
    torch.testing.assert_close(added[0], added[1].T)


@pytest.mark.parametrize("act", ACT_TOKENS)
def test_the_gain_of_an_activation_keeps_unit_variance(act):
    x = torch.linspace(-8, 8, 100_001, dtype=torch.float64)
    density = torch.exp(-(x**2) / 2) / torch.exp(-(x**2) / 2).sum()
    y = build(parse(act, Block(), 8, 8))(x.clone())
    variance = (density * y**2).sum() - (density * y).sum() ** 2
    assert GAINS[act] ** 2 * variance.item() == pytest.approx(1, abs=0.011)  # leaky: published for a slope of 0.01


def drop_path(rate: float) -> DropPath:
    module = DropPath()
    module.set(rate)
    return module.train()


def test_drop_path_keeps_the_mean_and_drops_entire_samples():
    torch.manual_seed(0)
    y = drop_path(0.3)(torch.ones(20_000, 2, 3, 3))
    assert y.mean().item() == pytest.approx(1, abs=5 * (0.3 / 0.7 / 20_000) ** 0.5)
    samples = y.flatten(1)
    assert torch.equal(samples.amin(1), samples.amax(1))
    assert samples.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_drop_path_is_the_identity_at_rate_0_and_in_eval():
    x = torch.randn(64, 2, 3, 3)
    assert drop_path(0)(x) is x
    assert drop_path(0.5).eval()(x) is x
    module = drop_path(0.5)
    assert not torch.equal(module(x), x)
    module.set(0)
    assert module(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
def test_drop_path_rejects_rates_outside_0_to_1(rate):
    with pytest.raises(ValueError, match="drop path rate"):
        DropPath().set(rate)


def test_drop_path_rises_linearly_over_the_blocks_and_is_not_saved():
    net = build_net(resolve(Arch(), Size(width=0.25, depth=0.3333), 32, 10))
    saved = net.state_dict().keys()
    net.set_drop_path(0.5)
    rates = [block.drop_path.rate.item() for stage in net.stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert net.state_dict().keys() == saved
    assert not any("drop_path" in name for name in saved)


def test_drop_path_drops_only_the_branch():
    torch.manual_seed(0)
    block = build_net(resolve(Arch(), Size(width=0.25), 32, 10)).train().stages[0].blocks[1]
    block.drop_path.set(0.5)
    x = torch.rand(32, 64, 4, 4)
    unchanged = (block(x) - x).flatten(1).abs().amax(1) == 0  # relu(x) = x
    assert 5 < unchanged.sum() < 27


def test_drop_path_changes_its_rate_without_recompiling():
    counter = torch._dynamo.testing.CompileCounter()
    module = drop_path(0.1)
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    x = torch.ones(1000, 1, 1, 1)
    dropped = []
    for rate in (0.1, 0.5, 0.9):
        module.set(rate)
        torch.manual_seed(0)
        dropped.append((compiled(x) == 0).float().mean().item())
    assert dropped == pytest.approx([0.1, 0.5, 0.9], abs=0.05)
    assert counter.frame_count == 1
