"""Downloads of one file over HTTP: resumed, verified, and abandoned when the source is too slow."""

import http.client
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

from tqdm import tqdm

from minuteloop.data.cifar_files import md5

HEADERS = {"User-Agent": "minuteloop"}
GZIP_MAGIC = b"\x1f\x8b"


class SourceError(Exception):
    """The reason why a source failed, in a few words."""


@dataclass(frozen=True)
class Limits:
    """What a source must achieve to be kept."""

    timeout: float = 8.0  # seconds to answer, and between two pieces of the body
    min_rate: float = 200_000  # bytes/s, averaged over `patience` seconds
    patience: float = 10.0
    min_progress: int = 1_000_000  # bytes between two interruptions


LIMITS = Limits()


def probe(urls: list[str], timeout: float) -> Callable[[str], str]:
    """Send a HEAD request to all `urls` at once, so that all dead ones together cost `timeout` seconds.

    Returns a function that maps a url to the reason why it does not answer, or "" if it does.
    """
    reasons = {}

    def head(url: str) -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers=HEADERS, method="HEAD"), timeout=timeout).close()
            reasons[url] = ""
        except HTTPError:
            reasons[url] = ""  # some servers reject HEAD only
        except (OSError, http.client.HTTPException) as error:
            reasons[url] = _describe(error)

    threads = {url: threading.Thread(target=head, args=(url,), daemon=True) for url in urls}
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + timeout

    def reason(url: str) -> str:
        threads[url].join(max(0.0, deadline - time.monotonic()))
        return reasons.get(url, f"no answer in {timeout:g} s")

    return reason


def fetch(url: str, target: Path, size: int, digest: str, limits: Limits = LIMITS) -> None:
    """Download `url` to `target`, a gzip file of `size` bytes with the MD5 `digest`, by way of `target`.part.

    Resumes a .part file that an earlier call or another source of the same file has left.

    Raises:
        SourceError: if the source exceeds `limits` or sends a different file.
        OSError: if the file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    resumed = length = _length(part)
    while length < size:
        before = length
        _append(url, part, size, limits)
        length = _length(part)
        if length < size and length - before < limits.min_progress:
            raise SourceError(f"connection closed at {length:,} of {size:,} bytes")
    if md5(part) == digest:
        os.replace(part, target)
        return
    part.unlink()
    if not resumed:
        raise SourceError("wrong MD5")
    fetch(url, target, size, digest, limits)  # the resumed part, from another source, may be the wrong one


def _append(url: str, part: Path, size: int, limits: Limits) -> None:
    """Send one request and append to `part` until the connection ends; restart it if the server cannot resume."""
    start = _length(part)
    request = urllib.request.Request(url, headers=HEADERS | ({"Range": f"bytes={start}-"} if start else {}))
    try:
        response = urllib.request.urlopen(request, timeout=limits.timeout)
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(_describe(error)) from error
    with response:
        start = _check_headers(response, start, size)
        with (
            open(part, "ab" if start else "wb") as file,
            # disable=None: no bar unless stderr is a terminal
            tqdm(total=size, initial=start, unit="B", unit_scale=True, disable=None, leave=False) as bar,
        ):
            try:
                for piece in _pieces(response, limits):
                    if file.tell() == 0 and not GZIP_MAGIC.startswith(piece[:2]):
                        raise SourceError("not a gzip archive")
                    if file.tell() + len(piece) > size:
                        raise SourceError("different file")
                    file.write(piece)
                    bar.update(len(piece))
            finally:
                file.flush()
                os.fsync(file.fileno())


def _check_headers(response: http.client.HTTPResponse, start: int, size: int) -> int:
    """Return the offset of the body in the file: `start`, or 0 if the server ignored the range. Raises SourceError."""
    if response.headers.get_content_type() == "text/html":
        raise SourceError("web page instead of an archive")
    if response.status == 206:
        if response.headers["Content-Range"] != f"bytes {start}-{size - 1}/{size}":
            raise SourceError("different file")
        return start
    if response.headers["Content-Length"] not in (None, str(size)):
        raise SourceError("different file")
    return 0


def _pieces(response: http.client.HTTPResponse, limits: Limits) -> Iterator[bytes]:
    """Yield the body as it arrives. Raises SourceError if it stalls or is too slow."""
    since, received = time.monotonic(), 0
    while True:
        try:
            # read1 returns what has arrived; read would block for the full size and hide a trickle
            piece = response.read1(1 << 16)
        except TimeoutError as error:
            raise SourceError("stalled") from error
        except (OSError, http.client.HTTPException):
            return
        if not piece:
            return
        yield piece
        received += len(piece)
        if (seconds := time.monotonic() - since) >= limits.patience:
            if received < limits.min_rate * seconds:
                raise SourceError(f"slower than {limits.min_rate / 1000:.0f} kB/s")
            since, received = time.monotonic(), 0


def _describe(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code}"
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
