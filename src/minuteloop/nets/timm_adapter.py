"""timm's models as nets, with strides taken away from the front, as from our own, until they fit a small image."""

import dataclasses
import difflib
import math
import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from minuteloop.nets.layers import DropPath
from minuteloop.schema import Arch, Size
from minuteloop.validation import ConfigError, flat

RATE = 0.5  # of drop path when a model is created; what its paths have of it is their share of any rate


@dataclass(frozen=True)
class TimmPlan:
    """A timm model resolved: nothing is left to decide when it is created."""

    name: str
    options: dict  # keyword arguments to timm.create_model
    strides: dict[str, int]  # submodule -> its stride, where it is not the model's own
    image_size: int  # side, pixels
    num_classes: int
    grid: int  # side of the last map, pixels
    warnings: tuple[str, ...] = field(compare=False)

    def text(self) -> str:
        """The model in words: equal texts are equal nets."""
        words = [f"{key}={value}" for key, value in self.options.items()]
        words += [f"{name}.stride={stride}" for name, stride in self.strides.items()]
        return f"timm {self.name} {' '.join(words)}, {self.image_size}x{self.image_size} to {self.grid}x{self.grid}"


def resolve_timm(arch: Arch, size: Size, image_size: int, num_classes: int) -> TimmPlan:
    """timm's model `arch.name` for images of side `image_size` (pixels), its total stride `size.reduce` at most.

    Patches of the image get smaller where the model has such an option; else strides go, each time in all branches
    that read the largest map. Raises ConfigError, also where the last map would be 1x1 and where the model does not
    run on such images.
    """
    if arch.name == "timm":
        raise ConfigError("arch=timm: arch.name=MODEL has to say which, one of timm.list_models()")
    import timm

    own = flat(dataclasses.asdict(Arch(name=arch.name, timm=arch.timm)))
    for key, value in flat(dataclasses.asdict(arch)).items():
        if value != own.get(key):
            raise ConfigError(f"arch.{key}={value}: a net of timm's has no such knob")
    name, here, image = arch.name, f"arch.name={arch.name}", f"{image_size}x{image_size}"
    if name not in timm.list_models():
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        told = f" (nearest: {close[0]})" if close else "; arch.name=MODEL has to be one of timm.list_models()"
        raise ConfigError(f"{here}: timm has no such model{told}")
    if "pretrained" in arch.timm:
        raise ConfigError(f"arch.timm.pretrained={arch.timm['pretrained']}: nets are trained from their start here")

    total = max(1, image_size // arch.stages.last_grid) if size.reduce == "auto" else size.reduce
    try:
        options, strides, grid = _fit(name, arch.timm | {"num_classes": num_classes}, image_size, image_size // total)
    except Exception as error:  # of any kind: a model that is made for other images
        told = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ConfigError(f"{here}: timm's model does not run on {image} images ({told})") from error
    if grid < 2:
        raise ConfigError(f"{here}: the last map would be 1x1 at {image}; lower size.reduce")
    idle = (size.width, size.depth, size.phi) != (1, 1, 0)
    warning = f"size {size.name}: a net of timm's has widths and depths of its own; only size.reduce is used"
    return TimmPlan(name, options, strides, image_size, num_classes, grid, (warning,) if idle else ())


class TimmNet(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]; `model` is timm's own, but for drop path and strides."""

    def __init__(self, plan: TimmPlan):
        super().__init__()
        import timm

        self.model = timm.create_model(plan.name, **plan.options)
        _set_strides(self.model, plan.strides)
        self.drop_paths = []  # (module, its share of the rate)
        for name, module in list(self.model.named_modules()):
            if isinstance(module, timm.layers.DropPath):
                self.drop_paths.append((DropPath(), module.drop_prob / RATE))
                _replace(self.model, name, self.drop_paths[-1][0])

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def features(self, x: Tensor) -> list[tuple[int, Tensor]]:
        """Images [N, 3, H, W] -> (stride in pixels, maps [N, C, H / stride, W / stride]) of each of timm's levels.

        Raises ConfigError where the model does not give its maps.
        """
        try:
            maps = self.model.forward_intermediates(x, intermediates_only=True)
        except AttributeError as error:
            raise ConfigError(f"{type(self.model).__name__} of timm does not give its maps") from error
        return [(x.shape[-1] // found.shape[-1], found) for found in maps]

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the model says do not decay, where * is any text."""
        kept = self.model.no_weight_decay() if hasattr(self.model, "no_weight_decay") else ()
        return {f"model.{name}" for name in kept}

    def classifiers(self) -> nn.ModuleList:
        """The model's last layers: one, or more where it has a head for distillation or for each of its branches."""
        found = self.model.get_classifier()
        return nn.ModuleList(found if isinstance(found, (list, tuple, nn.ModuleList)) else [found])

    def init_from(self, images: Tensor) -> None:
        """Nothing here is computed from images."""

    def set_drop_path(self, rate: float) -> None:
        """Drop path rising from block to block to `rate` in [0, 1), as the model has it. Raises ConfigError."""
        if rate and not self.drop_paths:
            raise ConfigError(f"{type(self.model).__name__} of timm has no drop path: ~recipe.regularizers.drop_path")
        for module, share in self.drop_paths:
            module.set(rate * share)

    def set_dropout(self, rate: float) -> None:
        """Raises ConfigError: a model's dropout is an option of its own."""
        if rate:
            raise ConfigError(f"dropout of a timm model is +arch.timm.drop_rate={rate:g}; ~recipe.regularizers.dropout")


def _fit(name: str, asked: dict, image_size: int, wanted: int) -> tuple[dict, dict[str, int], int]:
    """Options and strides with which a model runs, and the side of its last map: `wanted` pixels, where it can.

    `asked` are options that stay. Raises whatever the model does.
    """
    try:
        return _with_smaller_patches(name, asked, image_size, wanted)
    except Exception:  # of any kind: most models have no patches or cannot change them
        return _with_fewer_strides(name, asked, image_size, wanted)


def _with_smaller_patches(name: str, asked: dict, image_size: int, wanted: int) -> tuple[dict, dict[str, int], int]:
    model, options = _created(name, {"drop_path_rate": RATE, "img_size": image_size}, asked)
    patch = next(_side(module.patch_size) for module in model.modules() if hasattr(module, "patch_size"))
    smaller = max(1, patch * _grid(model, image_size) // wanted)
    if smaller < patch:
        model, options = _created(name, options, {"patch_size": smaller} | asked)
    return options, {}, _checked_grid(model, image_size, asked["num_classes"], least=wanted)


def _with_fewer_strides(name: str, asked: dict, image_size: int, wanted: int) -> tuple[dict, dict[str, int], int]:
    for scale in (1, 2, 4, 8, 16, 32):  # an image that is large enough with all strides
        side = image_size * scale
        model, options = _created(name, {"drop_path_rate": RATE, "img_size": side}, asked)
        try:
            if _grid(model, side) >= wanted:
                break
        except Exception:
            if scale == 32:
                raise
    strides = {}
    while side > image_size and (first := _first_strides(model, side)):
        factors = {name: _least_factor(stride) for name, stride in first.items()}
        fewer = {name: stride // factors[name] for name, stride in first.items()}
        _set_strides(model, fewer)
        strides |= fewer
        side = max(image_size, side // min(factors.values()))
    return options, strides, _checked_grid(model, image_size, asked["num_classes"], least=1)


def _created(name: str, wanted: dict, asked: dict) -> tuple[nn.Module, dict]:
    """A model without memory for its numbers, and the options that it took: `asked`, and of `wanted` what it has."""
    import timm

    while True:
        try:
            with torch.device("meta"):
                return timm.create_model(name, **wanted, **asked).eval(), wanted | asked
        except TypeError as error:
            strange = set(re.findall(r"'(\w+)'", str(error))) & wanted.keys()
            if not strange:
                raise
            wanted = {key: value for key, value in wanted.items() if key not in strange}


@torch.no_grad()
def _grid(model: nn.Module, side: int) -> int:
    """Side of the last map of an image, both in pixels: of maps [N,C,H,W], [N,H,W,C] or tokens [N,L,C]."""
    last = model.forward_features(_image(side))
    if not isinstance(last, Tensor) or last.ndim not in (3, 4):
        raise ValueError("it has no last map")
    if last.ndim == 3:
        return math.isqrt(last.shape[1] - getattr(model, "num_prefix_tokens", 0))
    return min(last.shape[2:] if last.shape[1] == model.num_features else last.shape[1:3])


@torch.no_grad()
def _checked_grid(model: nn.Module, side: int, num_classes: int, least: int) -> int:
    grid, logits = _grid(model, side), model(_image(side))
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        raise ValueError("it gives no logits")
    if grid < least:
        raise ValueError(f"its last map would be {grid}x{grid}")
    return grid


@torch.no_grad()
def _first_strides(model: nn.Module, side: int) -> dict[str, int]:
    """The strides of the modules that read the largest map of an image; empty where no module strides."""
    from timm.layers import BlurPool2d

    found = {}  # name -> side of the map that it reads, stride

    def watch(name: str):
        return lambda module, inputs, _: found.update({name: (inputs[0].shape[-1], _side(module.stride))})

    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, BlurPool2d)
    modules = [(n, m) for n, m in model.named_modules() if isinstance(m, kinds) and _side(m.stride) > 1]
    hooks = [module.register_forward_hook(watch(name)) for name, module in modules]
    model(_image(side))
    for hook in hooks:
        hook.remove()
    largest = max((side for side, _ in found.values()), default=0)
    return {name: stride for name, (side, stride) in found.items() if side == largest}


def _image(side: int) -> Tensor:
    return torch.empty(1, 3, side, side, device="meta")


def _least_factor(number: int) -> int:
    return next(factor for factor in range(2, number + 1) if number % factor == 0)


def _set_strides(model: nn.Module, strides: dict[str, int]) -> None:
    """Gives submodules their stride; one that cuts its map in squares, as wide as its stride, cuts smaller ones."""
    for name, stride in strides.items():
        module = model.get_submodule(name)
        kernel, squares = getattr(module, "kernel_size", None), stride
        if isinstance(module.stride, tuple):
            squares = (stride, stride)
        if kernel is not None and _side(kernel) == _side(module.stride):
            if isinstance(module, nn.Conv2d):
                shape = (module.in_channels, module.out_channels, stride, stride)
                with module.weight.device:
                    _replace(model, name, type(module)(*shape, groups=module.groups, bias=module.bias is not None))
                continue
            module.kernel_size = squares
        module.stride = squares


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)


def _side(value: int | tuple[int, int]) -> int:
    return value[0] if isinstance(value, tuple) else value
