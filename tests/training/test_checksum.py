"""A checkpoint that differs in one bit from what was written is refused, wherever the bit is."""

import hashlib
import io
import random
import zipfile

import pytest
import torch

from minuteloop.training.checksum import append_checksum, read_checked
from minuteloop.validation import ConfigError


@pytest.fixture
def checkpoint(tmp_path):
    """A file as a run writes it."""
    archive = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.arange(70.0)}, "step": 3}, archive)
    append_checksum(archive)
    path = tmp_path / "last.ckpt"
    path.write_bytes(archive.getvalue())
    return path


def test_checksum_is_the_comment_of_an_archive_that_torch_and_zip_read(checkpoint):
    archive = zipfile.ZipFile(checkpoint)
    # all but the comment and the two bytes of its length
    assert archive.comment.decode() == hashlib.sha256(checkpoint.read_bytes()[:-66]).hexdigest()
    assert archive.testzip() is None
    loaded = torch.load(checkpoint, weights_only=True)
    assert loaded["step"] == 3 and torch.equal(loaded["state_dict"]["weight"], torch.arange(70.0))
    assert read_checked(checkpoint) == checkpoint.read_bytes()


def bits(size: int, count: int | None) -> list[int]:
    return random.Random(0).sample(range(8 * size), count) if count else list(range(8 * size))


@pytest.mark.parametrize("count", [60, pytest.param(None, id="every", marks=pytest.mark.exhaustive)])
def test_flipped_bit_is_refused_in_one_line_that_names_the_file(checkpoint, count):
    content = checkpoint.read_bytes()
    checksum = range(8 * (len(content) - 66), 8 * len(content))
    for bit in {*bits(len(content), count), *checksum}:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        checkpoint.write_bytes(damaged)
        with pytest.raises(ConfigError) as error:
            read_checked(checkpoint)
        reason = "damaged (its SHA-256 does not match); delete it to start the run again"
        assert str(error.value) == f"{checkpoint}: {reason}"


@pytest.mark.parametrize("size", [0, 1, 65, 66, 67, -66, -64, -1])
def test_truncated_file_is_refused(checkpoint, size):
    checkpoint.write_bytes(checkpoint.read_bytes()[:size])
    with pytest.raises(ConfigError, match="damaged"):
        read_checked(checkpoint)
