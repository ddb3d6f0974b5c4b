"""Parameter groups: which weights decay, and which an optimizer treats separately."""

import fnmatch


def parameter_groups(net, weight_decay: float) -> list[dict]:
    """Split the trained parameters of `net` into named groups.

    - head: the weight of the classifier, which is what `net.classifiers()` returns, or else the last layer.
    - depthwise: depthwise filters.
    - no_decay: norms, biases, gains and layer scales (DeiT), and parameters that `net.no_weight_decay()` names (timm);
      * matches any text. Their weight decay is 0.
    - matrix: all other weights.

    Empty groups are left out.
    """
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    weights = [p for p in parameters if p.ndim > 1]
    head_ids = {id(p) for p in (net.classifiers().parameters() if hasattr(net, "classifiers") else weights[-1:])}
    head = [p for p in weights if id(p) in head_ids]
    patterns = getattr(net, "no_weight_decay", set)()
    named = {p for name, p in net.named_parameters() for pattern in patterns if fnmatch.fnmatch(name, pattern)}
    no_decay = [p for p in parameters if p.ndim == 0 or p.numel() == len(p) or p in named]
    no_decay_ids = {id(p) for p in no_decay}
    depthwise = [p for p in parameters if p.ndim > 2 and p.shape[1] == 1 and id(p) not in no_decay_ids]
    grouped = {id(p) for p in (*head, *depthwise, *no_decay)}
    matrix = [p for p in parameters if id(p) not in grouped]
    groups = {"matrix": matrix, "depthwise": depthwise, "head": head, "no_decay": no_decay}
    return [
        {"name": name, "params": params, "weight_decay": 0.0 if name == "no_decay" else weight_decay}
        for name, params in groups.items()
        if params
    ]
