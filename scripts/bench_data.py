"""What augmenting a batch costs, beside what other libraries take for the same. Needs torchvision, timm and kornia."""

from collections.abc import Iterator

from bench_rounds import alternate, now, spread, times

from minuteloop.config import instantiate
from minuteloop.config.compose import compose
from minuteloop.validation import ConfigError

BATCH = 512
PASSES = 10  # of ours through the images, so that the arms take about as long


def augment(config, args) -> Iterator[dict]:
    """RandAugment and TrivialAugment on a batch of 512 that lies ready in the form that each arm takes.

    Raises ConfigError where a peer is not installed.
    """
    import numpy as np
    import torch
    from PIL import Image

    try:
        from kornia.augmentation.auto import RandAugment as KorniaRandAugment
        from torchvision.transforms import autoaugment, v2
    except ImportError as error:
        raise ConfigError(f"{error.name} is missing: pip install torchvision timm kornia") from error

    from minuteloop.data.cifar import load
    from minuteloop.recipe.augment.rand_augment import RandAugment
    from minuteloop.recipe.augment.trivial_augment import TrivialAugment

    images = torch.from_numpy(load(config.data.name, config.data.root).train_images[:BATCH])
    pillow = [Image.fromarray(np.ascontiguousarray(image)) for image in images.permute(0, 2, 3, 1).numpy()]
    images = images.to(config.device)
    floats = images.float() / 255

    def batched(policy):
        return lambda: policy(images, None)

    def one_by_one(policy, form):
        return lambda: [policy(image) for image in form]

    kornia = KorniaRandAugment(n=2, m=27)  # of 30
    rand = {
        "ours": batched(RandAugment()),
        "timm, Pillow": one_by_one(timm_policy(), pillow),
        "torchvision v1, Pillow": one_by_one(autoaugment.RandAugment(2, 9), pillow),
        "torchvision v2, a tensor an image": one_by_one(v2.RandAugment(2, 9), images),
        "kornia, one draw of operations for the batch": lambda: kornia(floats),
    }
    trivial = {
        "ours": batched(TrivialAugment()),
        "torchvision v1, Pillow": one_by_one(autoaugment.TrivialAugmentWide(), pillow),
        "torchvision v2, a tensor an image": one_by_one(v2.TrivialAugmentWide(), images),
    }
    for policy, arms in (("RandAugment", rand), ("TrivialAugment", trivial)):
        timed = {name: _timed(arm, config.device) for name, arm in arms.items()}
        yield from ({"policy": policy, **row} for row in _rows(timed, args.rounds))


def _timed(arm, device: str):
    """Images/s of an arm over a batch of BATCH, four times in a row."""

    def rate() -> float:
        begin = now(device)
        for _ in range(4):
            arm()
        return 4 * BATCH / (now(device) - begin)

    return rate


def _rows(arms: dict, rounds: int) -> Iterator[dict]:
    """Arms that give images/s, ours first, and ours over each."""
    rates = alternate(arms, rounds)
    ours = next(iter(rates.values()))
    for arm, found in rates.items():
        yield {"arm": arm, "images_a_second": spread(found), "ours_is": times(ours, found)}


def pipeline(config, args) -> Iterator[dict]:
    """Shuffled batches of 512, augmented and normalised: crop and flip (plain); DeiT's whole list.

    Raises ConfigError where a peer is not installed.
    """
    for recipe in ("plain", "deit"):
        try:
            arms = pipelines(recipe, config, args.steps, args.workers)
        except ImportError as error:
            raise ConfigError(f"{error.name} is missing: pip install torchvision timm") from error
        yield from ({"recipe": recipe, **row} for row in _rows(arms, args.rounds))


def pipelines(recipe: str, config, steps: int, workers: int) -> dict:
    """Name -> a function that goes through `steps` batches and gives images/s; ours first."""
    import numpy as np
    import torch
    from timm.data.mixup import Mixup
    from torch.utils.data import DataLoader
    from torchvision.transforms import InterpolationMode, autoaugment, v2
    from torchvision.transforms import transforms as v1

    from minuteloop.data.cifar import load
    from minuteloop.data.device_loader import DeviceLoader
    from minuteloop.training.classifier import Classifier, reseed
    from minuteloop.training.plan import Plan

    dataset = load(config.data.name, config.data.root)
    count = BATCH * (steps + workers)
    repeats = -(-count // len(dataset.train_labels))
    images = np.concatenate([dataset.train_images] * repeats)[:count]
    labels = np.concatenate([dataset.train_labels] * repeats)[:count]
    plan = Plan(steps=1, batch_size=BATCH, epochs=1.0, strength=1.0, lr=0.0, weight_decay=0.0, seconds_asked=None)
    ingredients = instantiate.ingredients(compose([f"recipe={recipe}"]).recipe)
    module = Classifier(torch.nn.Identity(), ingredients, plan, dataset).to(config.device)
    tensors = (torch.from_numpy(array).to(config.device) for array in (images, labels))
    indices = torch.arange(count, device=config.device)
    resident = DeviceLoader(*tensors, indices, BATCH, seed=0, prepare=module.prepare)

    def ours() -> float:
        begin = now(config.device)
        for _ in range(PASSES):
            for step, batch in enumerate(resident):
                reseed(0, step)
                module.finish(*batch)
        return PASSES * BATCH * (step + 1) / (now(config.device) - begin)

    rows = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    before = [v1.RandomCrop(32, padding=4), v1.RandomHorizontalFlip()]
    after = [v1.ToTensor(), v1.Normalize(dataset.mean, dataset.std)]

    def loaded(policy: list, mix):
        erasing = [v1.RandomErasing(0.25, value="random")] if recipe == "deit" else []
        data = _Pillow(rows, labels, v1.Compose([*before, *policy, *after, *erasing]))
        loader = DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=True, drop_last=True)

        def through() -> float:
            for step, batch in enumerate(loader):
                if step == workers:  # every worker has delivered once
                    begin = now(config.device)
                mixed = mix(*batch)
                if config.device != "cpu":
                    mixed = [part.to(config.device, non_blocking=True) for part in mixed]
            return BATCH * (step + 1 - workers) / (now(config.device) - begin)

        return through

    if recipe == "plain":
        return {"ours": ours, "torchvision": loaded([], lambda *batch: batch)}
    theirs = v2.RandomChoice([v2.MixUp(alpha=0.8, num_classes=10), v2.CutMix(alpha=1.0, num_classes=10)])
    timm = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10)
    drawn = autoaugment.RandAugment(2, 9, interpolation=InterpolationMode.BILINEAR)
    return {
        "ours": ours,
        "torchvision": loaded([drawn], theirs),
        "timm's RandAugment and mixup": loaded([timm_policy()], timm),
    }


class _Pillow:
    """A dataset as torchvision's CIFAR10 is one: a Pillow image for each index."""

    def __init__(self, rows, labels, transform) -> None:
        self.rows, self.labels, self.transform = rows, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        from PIL import Image

        return self.transform(Image.fromarray(self.rows[index])), int(self.labels[index])


def timm_policy():
    """timm's RandAugment with DeiT's string, kept from stopping: Pillow 13 refuses the 0 bits that it asks for."""
    from timm.data import auto_augment

    keep = auto_augment.posterize
    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = lambda image, bits, **more: keep(image, max(bits, 1), **more)
    return auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", {"img_mean": (124, 116, 104)})
