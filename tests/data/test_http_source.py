"""Download of one file from a server that fails in the ways that real sources do."""

import hashlib
import time

import numpy as np
import pytest
from cifar_builders import names

from minuteloop.data import http_source
from minuteloop.data.http_source import Limits, SourceError

CONTENT = b"\x1f\x8b" + np.random.default_rng(0).bytes(300_000)  # not an archive, but starts like one
SIZE, MD5 = len(CONTENT), hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def served(server):
    """The server has CONTENT."""
    server.content = CONTENT


@pytest.fixture
def target(tmp_path):
    return tmp_path / "tiny.tar.gz"


def fetch(url, target, **limits):
    http_source.fetch(url, target, SIZE, MD5, Limits(**({"timeout": 2, "patience": 0.3} | limits)))


def part_of(target):
    return target.with_name(target.name + ".part")


def test_fetch_writes_only_the_target(server, target):
    fetch(server.url("good"), target)
    assert target.read_bytes() == CONTENT and names(target.parent) == [target.name]


def test_resume_requests_only_the_rest(server, target):
    part_of(target).write_bytes(CONTENT[:123_456])
    fetch(server.url("good"), target)
    assert server.requests == [("good", 123_456)]
    assert target.read_bytes() == CONTENT and names(target.parent) == [target.name]


def test_complete_part_is_not_downloaded_again(server, target):
    part_of(target).write_bytes(CONTENT)
    fetch(server.url("good"), target)
    assert server.requests == [] and target.read_bytes() == CONTENT


def test_server_without_ranges_restarts(server, target):
    part_of(target).write_bytes(CONTENT[:123_456])
    fetch(server.url("without_range"), target)
    assert server.requests == [("without_range", 123_456)] and target.read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"\x1f\x8b" + bytes(1000), CONTENT + b"\0"], ids=["wrong", "too long"])
def test_wrong_part_is_deleted_and_downloaded_again(server, target, left):
    part_of(target).write_bytes(left)
    fetch(server.url("good"), target)
    assert server.requests[-1] == ("good", 0)
    assert target.read_bytes() == CONTENT and names(target.parent) == [target.name]


def test_interrupted_source_is_resumed_while_it_progresses(server, target):
    fetch(server.url("disconnects"), target, min_progress=50_000)
    assert server.requests == [("disconnects", 0), ("disconnects", 120_000), ("disconnects", 240_000)]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "behavior, reason, left",
    [
        ("wrong_hash", "wrong MD5", None),
        ("wrong_size", "different file", None),
        ("endless", "different file", CONTENT),
        ("web_page", "web page instead of an archive", None),
        ("unlabeled_page", "not a gzip archive", b""),
        ("gone", "HTTP 404", None),
        ("disconnects", "connection closed at 120,000 of 300,002 bytes", CONTENT[:120_000]),
        ("stalls", "stalled", CONTENT[: SIZE // 2]),
        ("trickles", "slower than 200 kB/s", CONTENT),
    ],
)
def test_bad_source_fails_and_leaves_a_usable_part(server, target, behavior, reason, left):
    started = time.monotonic()
    with pytest.raises(SourceError, match=reason):
        fetch(server.url(behavior), target, timeout=1)  # an answer of a busy machine takes longer than 0.3
    assert time.monotonic() - started < 8
    assert not target.exists()
    assert part_of(target).exists() == (left is not None)
    if left is not None:  # it is the beginning of the file, so that the next source can resume it
        assert left.startswith(part_of(target).read_bytes())
        fetch(server.url("good"), target)
        assert target.read_bytes() == CONTENT


def test_wrong_range_is_rejected(server, target):
    part_of(target).write_bytes(CONTENT[:1000])
    with pytest.raises(SourceError, match="different file"):
        fetch(server.url("other_range"), target)
    assert part_of(target).read_bytes() == CONTENT[:1000]


def test_refused_connection_is_the_reason(server, target):
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(SourceError, match="Connection refused"):
        fetch(f"http://127.0.0.1:{port}/good/tiny.tar.gz", target)
    assert names(target.parent) == []
