"""A local HTTP server that fails in the ways that real sources do."""

from http.server import BaseHTTPRequestHandler


class Handler(BaseHTTPRequestHandler):
    """Serves /BEHAVIOR/...: the behavior is a method of this class."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        if self.path.startswith("/silent/"):
            self.server.closing.wait(5)
        self.reply(200, 0)

    def do_GET(self):
        byte_range = self.headers["Range"]
        self.start = int(byte_range.removeprefix("bytes=").removesuffix("-")) if byte_range else 0
        self.server.requests.append((self.path.split("/")[1], self.start))
        self.content = self.server.content
        getattr(self, self.path.split("/")[1])()

    def reply(self, status, length, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def begin(self):
        """Send the headers of a good response and return its body."""
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

    def disconnects(self):
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

    def unlabeled_page(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>sign in</title>")

    def gone(self):
        self.reply(404, 0)
