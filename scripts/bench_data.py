"""What augmenting a batch costs, beside what other libraries take for the same: rows of JSON, one for each arm.

    python scripts/bench_data.py augment             # RandAugment and TrivialAugment alone
    python scripts/bench_data.py pipeline            # from the dataset to a normalised batch, light and DeiT's

The arms alternate in one process on real CIFAR-10 images; a row has the median, least and most images per second over
the rounds, and `ratio`, ours over the arm's, round by round. Needs kornia beside this package's own dependencies.
"""

import argparse
import json
import statistics
import time
from importlib import metadata

from minuteloop import build, host

BATCH = 512
BATCHES = 24  # a round of a pipeline
WORKERS = 2
PEERS = ("torchvision", "timm", "kornia", "pillow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["augment", "pipeline"])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    versions = host.versions() | {name: metadata.version(name) for name in PEERS}
    for row in {"augment": augment, "pipeline": pipeline}[args.what](args.rounds):
        print(json.dumps({"bench": args.what, **row, "host": host.describe("cpu"), "versions": versions}), flush=True)


def augment(rounds: int) -> list[dict]:
    """RandAugment and TrivialAugment on a batch of 512 that lies ready in the form that each arm takes."""
    host.prepare()
    import numpy as np
    import torch
    from kornia.augmentation.auto import RandAugment as KorniaRandAugment
    from PIL import Image
    from torchvision.transforms import autoaugment, v2

    from minuteloop.data.cifar import load
    from minuteloop.recipe.rand_augment import RandAugment
    from minuteloop.recipe.trivial_augment import TrivialAugment

    images = torch.from_numpy(load("sample").train_images[:BATCH])
    pillow = [Image.fromarray(np.ascontiguousarray(image)) for image in images.permute(0, 2, 3, 1).numpy()]
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
    return compare("RandAugment", rand, rounds, BATCH, repeat=4) + compare(
        "TrivialAugment", trivial, rounds, BATCH, repeat=4
    )


def pipeline(rounds: int) -> list[dict]:
    """Shuffled batches of 512, augmented and normalised: crop and flip; DeiT's whole list."""
    host.prepare()
    return [
        row
        for recipe in ("plain", "deit")
        for row in compare(f"pipeline, {recipe}", pipelines(recipe), rounds, BATCH * BATCHES)
    ]


def pipelines(recipe: str) -> dict:
    """Name -> a function that goes through BATCHES batches and gives its seconds; ours first."""
    import numpy as np
    import torch
    from timm.data.mixup import Mixup
    from torch.utils.data import DataLoader
    from torchvision.transforms import InterpolationMode, autoaugment, v2
    from torchvision.transforms import transforms as v1

    from minuteloop.data.cifar import load
    from minuteloop.data.loader import DeviceLoader
    from minuteloop.module import Classifier, draw_seed
    from minuteloop.plan import Plan

    dataset = load("sample")
    count = BATCH * (BATCHES + WORKERS)
    repeats = -(-count // len(dataset.train_labels))
    images = np.concatenate([dataset.train_images] * repeats)[:count]
    labels = np.concatenate([dataset.train_labels] * repeats)[:count]
    plan = Plan(steps=1, batch_size=BATCH, epochs=1.0, strength=1.0, lr=0.0, weight_decay=0.0, seconds_asked=None)
    ingredients = build.ingredients(build.compose([f"recipe={recipe}"]).recipe)
    module = Classifier(torch.nn.Identity(), ingredients, plan, dataset)
    resident = DeviceLoader(torch.from_numpy(images), torch.from_numpy(labels), torch.arange(count), BATCH, seed=0)

    def ours() -> float:
        for step, batch in enumerate(resident):
            if step == WORKERS:
                begin = time.perf_counter()
            torch.manual_seed(draw_seed(0, step))
            module.augment(*batch)
        return time.perf_counter() - begin

    rows = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    before = [v1.RandomCrop(32, padding=4), v1.RandomHorizontalFlip()]
    after = [v1.ToTensor(), v1.Normalize(dataset.mean, dataset.std)]

    def loaded(policy: list, mix):
        erasing = [v1.RandomErasing(0.25, value="random")] if recipe == "deit" else []
        data = _Pillow(rows, labels, v1.Compose([*before, *policy, *after, *erasing]))
        loader = DataLoader(data, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True, drop_last=True)

        def through() -> float:
            for step, batch in enumerate(loader):
                if step == WORKERS:  # every worker has delivered once
                    begin = time.perf_counter()
                mix(*batch)
            return time.perf_counter() - begin

        return through

    if recipe == "plain":
        return {"ours": ours, "torchvision, DataLoader(2)": loaded([], lambda images, labels: None)}
    theirs = v2.RandomChoice([v2.MixUp(alpha=0.8, num_classes=10), v2.CutMix(alpha=1.0, num_classes=10)])
    timm = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10)
    drawn = autoaugment.RandAugment(2, 9, interpolation=InterpolationMode.BILINEAR)
    return {
        "ours": ours,
        "torchvision, DataLoader(2)": loaded([drawn], theirs),
        "timm's RandAugment and mixup, DataLoader(2)": loaded([timm_policy()], timm),
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


def compare(name: str, arms: dict, rounds: int, images: int, repeat: int = 1) -> list[dict]:
    """Rows of the arms, ours first; an arm is called `repeat` times a round, and may give its own seconds a call."""
    rates = {arm: [] for arm in arms}
    for round_ in range(-1, rounds):
        for arm, call in arms.items():
            begin = time.perf_counter()
            told = [call() for _ in range(repeat)]
            seconds = sum(told) if isinstance(told[0], float) else time.perf_counter() - begin
            if round_ >= 0:  # the first one allocates, and starts workers
                rates[arm].append(images * repeat / seconds)
    ours = rates["ours"]
    return [
        {
            "name": f"{name}: {arm}",
            "images_per_second": round(statistics.median(found)),
            "min": round(min(found)),
            "max": round(max(found)),
            **_ratio([mine / theirs for mine, theirs in zip(ours, found, strict=True)]),
            "rounds": rounds,
        }
        for arm, found in rates.items()
    ]


def _ratio(ratios: list[float]) -> dict:
    return {
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


if __name__ == "__main__":
    main()
