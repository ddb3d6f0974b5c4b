"""Initial weights by rule: the one of the paper whose norm the blocks use."""

from torch import nn

from minuteloop.nets.blueprint import Blueprint


def initialise(net: nn.Module, blueprint: Blueprint) -> None:
    """A net with layer norm: truncated normal of 0.02 and no bias, classifier too (Liu 2022, released code).

    Any other: He's normal by fan out for convolutions, the classifier as torch has it (torchvision's ResNet).
    Norms start as the identity and layer scales at their own value in both.
    """
    layer_norm = any(op.kind == "ln" for stage in blueprint.stages for block in stage.blocks for op in block.branch)
    for module in net.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        convolution = isinstance(module, nn.Conv2d)
        if layer_norm:
            nn.init.trunc_normal_(module.weight, std=0.02)
        elif convolution:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None and (layer_norm or convolution):
            nn.init.zeros_(module.bias)
