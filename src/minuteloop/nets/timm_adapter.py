"""timm models as nets: smaller patches or fewer strides, dropped from the front, adapt them to small images."""

import dataclasses
import inspect
import math
import typing
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from minuteloop.arch_schema import Arch, Size
from minuteloop.nets.layers import DropPath
from minuteloop.validation import ConfigError, did_you_mean, flat

DROP_PATH_RATE = 0.5  # when a model is created; each path's fraction of it is its fraction of any rate
MAX_SCALE = 32  # of the image on which a model with all its strides runs
# what timm's models raise for an image size or an argument that they cannot handle; they do not validate them
MODEL_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError),
)


@dataclass(frozen=True)
class TimmSpec:
    """A resolved timm model: everything that creating it needs."""

    name: str
    options: dict  # kwargs of timm.create_model
    strides: dict[str, int]  # submodule -> its stride, where it differs from timm's
    image_size: int  # pixels
    num_classes: int
    resolution: int  # of the last feature map, pixels
    warnings: tuple[str, ...] = field(compare=False)

    def text(self) -> str:
        """Return the model as text; equal texts mean equal nets."""
        settings = [f"{key}={value}" for key, value in self.options.items()]
        settings += [f"{name}.stride={stride}" for name, stride in self.strides.items()]
        sizes = f"{self.image_size}x{self.image_size} to {self.resolution}x{self.resolution}"
        return f"timm {self.name} {' '.join(settings)}, {sizes}"


def resolve_timm(arch: Arch, size: Size, image_size: int, num_classes: int) -> TimmSpec:
    """Resolve the timm model `arch.name` for images of `image_size` pixels with a total stride of `size.reduce`.

    A model with a patch size gets smaller patches. Others drop strides, each time in all branches that read the
    largest feature map.

    Raises:
        ConfigError: if the model does not run on such images, or its last feature map would be 1x1.
    """
    _check_arch(arch)
    where, image = f"arch.name={arch.name}", f"{image_size}x{image_size}"
    total = max(1, image_size // arch.stages.last_grid) if size.reduce == "auto" else size.reduce
    kwargs = arch.timm | {"num_classes": num_classes}
    try:
        options, strides, resolution = _fit(arch.name, kwargs, image_size, image_size // total)
    except MODEL_ERRORS as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ConfigError(f"{where}: the timm model does not run on {image} images ({reason})") from error
    if resolution < 2:
        raise ConfigError(f"{where}: the last feature map would be 1x1 at {image}; lower size.reduce")
    is_scaled = (size.width, size.depth, size.phi) != (1, 1, 0)
    warning = f"size={size.name}: timm models keep their own widths and depths; only size.reduce applies"
    return TimmSpec(arch.name, options, strides, image_size, num_classes, resolution, (warning,) if is_scaled else ())


def _check_arch(arch: Arch) -> None:
    """Check that timm has the model, and that no other key of the arch is set. Raises ConfigError."""
    import timm

    if arch.name == "timm":
        raise ConfigError("arch=timm: also set arch.name=MODEL to one of timm.list_models()")
    defaults = flat(dataclasses.asdict(Arch(name=arch.name, timm=arch.timm)))
    for key, value in flat(dataclasses.asdict(arch)).items():
        if value != defaults.get(key):
            raise ConfigError(f"arch.{key}={value}: does not apply to timm models (use +arch.timm.ARGUMENT=VALUE)")
    models = timm.list_models()
    if arch.name not in models:
        hint = did_you_mean(arch.name, models) or " (timm.list_models() lists them)"
        raise ConfigError(f"arch.name={arch.name}: unknown timm model{hint}")
    if "pretrained" in arch.timm:
        raise ConfigError(f"arch.timm.pretrained={arch.timm['pretrained']}: must be left out; nets train from scratch")


class TimmNet(nn.Module):
    """A timm model with other strides and our drop path: images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, spec: TimmSpec):
        super().__init__()
        import timm

        self.model = timm.create_model(spec.name, **spec.options)
        _set_strides(self.model, spec.strides)
        self.drop_paths = []  # (module, its fraction of the rate)
        for name, module in list(self.model.named_modules()):
            if isinstance(module, timm.layers.DropPath):
                self.drop_paths.append((DropPath(), module.drop_prob / DROP_PATH_RATE))
                _replace(self.model, name, self.drop_paths[-1][0])

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def features(self, x: Tensor) -> list[tuple[int, Tensor]]:
        """Return (stride in pixels, feature maps [N, C, H / stride, W / stride]) at each level of the model.

        Raises ConfigError where the model does not expose its feature maps.
        """
        if not hasattr(self.model, "forward_intermediates"):
            raise ConfigError(f"timm's {type(self.model).__name__} does not expose its feature maps")
        levels = self.model.forward_intermediates(x, intermediates_only=True)
        return [(x.shape[-1] // maps.shape[-1], maps) for maps in levels]

    def no_weight_decay(self) -> set[str]:
        """Return patterns of the parameters that the model excludes from weight decay; * matches any text."""
        names = self.model.no_weight_decay() if hasattr(self.model, "no_weight_decay") else ()
        return {f"model.{name}" for name in names}

    def get_classifier(self) -> nn.Module | tuple[nn.Module, ...]:
        """Return the last layer, or several where the model has a distillation head or one per branch."""
        return self.model.get_classifier()

    def init_from(self, images: Tensor) -> None:
        """Do nothing: no layer is computed from images."""

    def set_drop_path(self, rate: float) -> None:
        """Set drop path, rising over the blocks as in the model to `rate` in [0, 1)."""
        for module, fraction in self.drop_paths:
            module.set(rate * fraction)


Fit = tuple[dict, dict[str, int], int]  # options, strides, resolution of the last feature map


def _fit(name: str, kwargs: dict, image_size: int, resolution: int) -> Fit:
    """Find options and strides with which the model runs and ends at `resolution` pixels, if it can.

    The user's `kwargs` are kept. Raises one of MODEL_ERRORS.
    """
    arguments = _arguments(type(_create(name, kwargs)))
    try:
        fit = _shrink_patches(name, kwargs, arguments, image_size, resolution)
    except MODEL_ERRORS:  # it fixes its patch size, or its windows do not fit: strides may do
        fit = None
    return fit or _drop_strides(name, kwargs, arguments, image_size, resolution)


def _shrink_patches(name: str, kwargs: dict, arguments: set[str], image_size: int, resolution: int) -> Fit | None:
    """Return None where the model has no patches, or a fixed patch size that is too large."""
    options = _options(arguments, image_size)
    model = _create(name, options | kwargs)
    patch = next((_side(module.patch_size) for module in model.modules() if hasattr(module, "patch_size")), None)
    if patch is None:
        return None
    smaller = max(1, patch * _last_resolution(model, image_size) // resolution)
    if smaller < patch:
        if "patch_size" not in arguments:
            return None
        options["patch_size"] = smaller
        model = _create(name, options | kwargs)
    return options | kwargs, {}, _checked_resolution(model, image_size, kwargs["num_classes"], least=resolution)


def _drop_strides(name: str, kwargs: dict, arguments: set[str], image_size: int, resolution: int) -> Fit:
    """Scale the image until the model with all its strides ends at `resolution`, then drop strides back to 1 x."""
    side = image_size
    while True:
        options = _options(arguments, side) | kwargs
        model = _create(name, options)
        is_last = side == image_size * MAX_SCALE
        try:
            if _last_resolution(model, side) >= resolution or is_last:
                break
        except MODEL_ERRORS:  # the image is still too small
            if is_last:
                raise
        side *= 2
    strides = {}
    while side > image_size and (first := _first_strides(model, side)):
        factors = {module: _least_factor(stride) for module, stride in first.items()}
        fewer = {module: stride // factors[module] for module, stride in first.items()}
        _set_strides(model, fewer)
        strides |= fewer
        side = max(image_size, side // min(factors.values()))
    return options, strides, _checked_resolution(model, image_size, kwargs["num_classes"], least=1)


def _create(name: str, kwargs: dict) -> nn.Module:
    """Create a model on the meta device, without memory for its weights."""
    import timm

    with torch.device("meta"):
        return timm.create_model(name, **kwargs).eval()


def _options(arguments: set[str], image_size: int) -> dict:
    wanted = {"drop_path_rate": DROP_PATH_RATE, "img_size": image_size}
    return {key: value for key, value in wanted.items() if key in arguments}


def _arguments(model_class: type[nn.Module]) -> set[str]:
    """Return the names of the constructor's arguments, those of its base classes and of its config dataclass too."""
    names = set()
    for cls in model_class.__mro__:
        parameters = inspect.signature(cls.__init__).parameters
        names |= parameters.keys()
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
        # kwargs that override fields of `cfg`
        cfg = typing.get_type_hints(cls.__init__).get("cfg") if "cfg" in parameters else None
        for config in (cfg, *typing.get_args(cfg)):
            names |= {entry.name for entry in dataclasses.fields(config)} if dataclasses.is_dataclass(config) else set()
    return names


@torch.no_grad()
def _last_resolution(model: nn.Module, image_size: int) -> int:
    """Return the resolution of the last feature map, from [N, C, H, W], [N, H, W, C] or tokens [N, L, C]."""
    last = model.forward_features(_image(image_size))
    if not isinstance(last, Tensor) or last.ndim not in (3, 4):
        raise ValueError("it has no last feature map")
    if last.ndim == 3:
        return math.isqrt(last.shape[1] - getattr(model, "num_prefix_tokens", 0))
    return min(last.shape[2:] if last.shape[1] == model.num_features else last.shape[1:3])


@torch.no_grad()
def _checked_resolution(model: nn.Module, image_size: int, num_classes: int, least: int) -> int:
    resolution, logits = _last_resolution(model, image_size), model(_image(image_size))
    if not isinstance(logits, Tensor) or logits.shape != (1, num_classes):
        raise ValueError("it returns no logits")
    if resolution < least:
        raise ValueError(f"its last feature map would be {resolution}x{resolution}")
    return resolution


@torch.no_grad()
def _first_strides(model: nn.Module, image_size: int) -> dict[str, int]:
    """Return the strides of the modules that read the largest feature map; empty where no module strides."""
    from timm.layers import BlurPool2d

    inputs = {}  # name -> resolution of the input

    def record_input(name: str):
        return lambda module, args, output: inputs.update({name: args[0].shape[-1]})

    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, BlurPool2d)
    strided = {n: m for n, m in model.named_modules() if isinstance(m, kinds) and _side(m.stride) > 1}
    hooks = [module.register_forward_hook(record_input(name)) for name, module in strided.items()]
    model(_image(image_size))
    for hook in hooks:
        hook.remove()
    largest = max(inputs.values(), default=0)
    return {name: _side(strided[name].stride) for name, resolution in inputs.items() if resolution == largest}


def _image(size: int) -> Tensor:
    return torch.empty(1, 3, size, size, device="meta")


def _least_factor(number: int) -> int:
    return next(factor for factor in range(2, number + 1) if number % factor == 0)


def _set_strides(model: nn.Module, strides: dict[str, int]) -> None:
    """Set the stride of submodules; where it equals the kernel size, the kernel shrinks with it."""
    for name, stride in strides.items():
        module = model.get_submodule(name)
        kernel, size = getattr(module, "kernel_size", None), stride
        if isinstance(module.stride, tuple):
            size = (stride, stride)
        if kernel is not None and _side(kernel) == _side(module.stride):
            if isinstance(module, nn.Conv2d):
                shape = (module.in_channels, module.out_channels, stride, stride)
                with module.weight.device:
                    _replace(model, name, type(module)(*shape, groups=module.groups, bias=module.bias is not None))
                continue
            module.kernel_size = size
        module.stride = size


def _replace(model: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)


def _side(value: int | tuple[int, int]) -> int:
    return value[0] if isinstance(value, tuple) else value
