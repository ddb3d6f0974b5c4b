"""Initial weights by rule."""

from torch import nn

from minuteloop.nets.blueprint import Blueprint


def initialise(net: nn.Module, blueprint: Blueprint) -> None:
    """A net with layer norm: normal of deviation 1 / sqrt(fan in) (LeCun 1998) and no bias.

    Liu 2022 has a fixed 0.02 there, which suits its widths and 300 epochs. In a CPU minute at size=pico it costs 3.4
    points of validation accuracy (59.3 against 62.8 %, one run each).

    Any other: He's normal by fan out for convolutions, the classifier as torch has it (torchvision's ResNet).
    Norms start as the identity and layer scales at their own value in both.
    """
    layer_norm = any(op.kind == "ln" for stage in blueprint.stages for block in stage.blocks for op in block.branch)
    for module in net.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        convolution = isinstance(module, nn.Conv2d)
        if layer_norm:
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        elif convolution:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None and (layer_norm or convolution):
            nn.init.zeros_(module.bias)
