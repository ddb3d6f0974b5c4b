"""A checkpoint's SHA-256, kept at the end of its own file, so that both are written as one. Imports no torch.

torch.save writes a ZIP archive, and an archive may end with a comment, which torch.load skips.
"""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path

from minuteloop.validation import ConfigError

LENGTH = hashlib.sha256().digest_size * 2  # of the comment: hexadecimal digits
COMMENT_LENGTH = struct.pack("<H", LENGTH)  # the last field of an archive, before its comment


def append_checksum(archive: io.BytesIO) -> None:
    """Make the SHA-256 of an archive without a comment its comment."""
    with archive.getbuffer() as content:
        digest = hashlib.sha256(content[: -len(COMMENT_LENGTH)]).hexdigest()
    archive.seek(-len(COMMENT_LENGTH), io.SEEK_END)
    archive.write(COMMENT_LENGTH + digest.encode())


def read_checked(path: Path) -> bytes:
    """Return the content of a file that append_checksum has made. Raises ConfigError where a bit of it differs."""
    content = path.read_bytes()
    end = max(len(content) - LENGTH - len(COMMENT_LENGTH), 0)
    digest = hashlib.sha256(memoryview(content)[:end]).hexdigest()
    if content[end:] != COMMENT_LENGTH + digest.encode():
        raise ConfigError(f"{path}: damaged (its SHA-256 does not match); delete it to start the run again")
    return content
