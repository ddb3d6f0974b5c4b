"""Datasets and a failing HTTP server for the tests of data."""

import threading
from http.server import ThreadingHTTPServer

import pytest
from cifar_builders import files_of, publish, serve, tar_bytes, tiny
from failing_server import Handler

from minuteloop.data import cifar, download


@pytest.fixture
def offline(monkeypatch):
    """No sources, so that a test that would download fails."""
    monkeypatch.setattr(download, "SOURCES", {"cifar10": {}, "cifar100": {}})


@pytest.fixture
def serve_as_cifar10(monkeypatch, offline):
    """Return a function that makes a dataset be `cifar10`."""
    return lambda dataset: monkeypatch.setitem(cifar.DATASETS, "cifar10", dataset)


@pytest.fixture
def server(monkeypatch):
    """A local server with a `url(behavior)`, the `content` it serves and the (behavior, offset) `requests` it got."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients that hang up are expected
    server.requests, server.content = [], b""
    server.closing, server.released = threading.Event(), threading.Event()
    server.url = lambda behavior: f"http://127.0.0.1:{server.server_port}/{behavior}/tiny.tar.gz?download=1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.closing.set()
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(server, monkeypatch):
    """Return a function that gives a tiny `cifar10` sources with these behaviors, and returns its bytes."""
    dataset, raw = tiny()
    files = files_of(dataset, raw, "python")
    server.content = tar_bytes({f"cifar-10-batches-py/{name}": content for name, content in files.items()})
    dataset = publish(dataset, "python", server.content)

    def publish_at(*behaviors):
        urls = {name: name if name.startswith("npm:") else server.url(name) for name in behaviors}
        serve(monkeypatch.setitem, dataset, urls)
        return raw

    return publish_at
