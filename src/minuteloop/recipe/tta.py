"""Test-time augmentation."""

from dataclasses import dataclass

from minuteloop.validation import integer


@dataclass
class TTA:
    """Test-time augmentation: averages the logits of an image, its mirror image and shifted copies of both.

    The unshifted views weigh one half, the copies shifted by `shift` pixels along both diagonal directions the other
    (Jordan 2024, sec. 3.5). Evaluation reports the TTA accuracy beside that of the plain image.
    """

    shift: int = integer(1, 0, 16, "shift of the copies, 0 for none", "pixels")

    def __call__(self, classify, images):
        """Return the mean logits [N,K] of `classify`: images [N,3,H,W] -> logits [N,K]."""

        def mirrored_mean(view):
            return (classify(view) + classify(view.flip(3))) / 2

        logits = mirrored_mean(images)
        if self.shift:
            shifted = [mirrored_mean(shift_reflecting(images, by)) for by in (-self.shift, self.shift)]
            logits = (logits + sum(shifted) / 2) / 2
        return logits


def shift_reflecting(images, by: int):
    """Shift images [N,3,H,W] down and right by `by` pixels, filling in their reflection."""
    from torch.nn.functional import pad

    height, width = images.shape[2:]
    padded = pad(images, [abs(by)] * 4, mode="reflect")
    start = abs(by) - by
    return padded[:, :, start : start + height, start : start + width]
