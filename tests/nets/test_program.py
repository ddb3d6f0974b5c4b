"""The language of programs."""

import pytest

from minuteloop.arch_schema import Block
from minuteloop.nets.layers import MODULES
from minuteloop.nets.program import TOKEN_NAMES, TOKENS, parse, spell


def test_every_token_has_a_module():
    kinds = {"conv" if token in ("pw", "dw") else token for token in TOKENS}
    assert kinds == set(MODULES)


@pytest.mark.parametrize(
    ("program", "spelled"),
    [
        ("conv3/2:4w norm act", "conv3/2:4w bn relu"),
        ("pw:64 conv3g32 dw5/2", "pw:2w conv3g32:2w dw5/2"),
        ("conv3gw8:c", "conv3g2:0.5w"),  # c=16 channels in groups of 8
        ("conv3g12:w", "conv3g4:w"),  # gcd(12, 16, 32)
        ("conv3g16:c", "dw3"),
        ("pw:0.25c pw:11w pw:33", "pw:0.125w pw:11w pw:33"),
        ("maxpool3/2 ln gelu", "maxpool3/2 ln gelu"),
        ("unshuffle2 pw:w wattn7 sattn7 attn", "unshuffle2 pw:w wattn7 sattn7 attn"),
        ("se:0.25c eca ceca grn times:0.2", "se:0.125w eca ceca grn times:0.2"),
        ("norm relu6 evob evolins avgpool2/2 blur/2 leaky", "bn relu6 evob evolins avgpool2/2 blur/2 leaky"),
    ],
)
def test_a_program_is_spelled_canonically_and_parses_back(program, spelled):
    ops = parse(program, Block(), c=16, w=32)
    assert spell(ops, 32) == spelled
    assert parse(spelled, Block(), c=16, w=32) == ops


def test_evonorm_replaces_a_norm_and_the_act_that_follows():
    def spelled(**knobs):
        return spell(parse("conv3:w norm act pw:w norm blur/2 act", Block(norm="evonorm_b0", **knobs), 16, 16), 16)

    assert spelled() == "conv3:w evob pw:w evolinb blur/2 relu"


def test_every_token_has_a_long_name():
    assert TOKEN_NAMES.keys() == {*TOKENS, "norm", "act"}
