"""A W&B server that starts a run and then hardly answers: the end is bounded, and the wait is announced."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from offline_wandb import QUICK

from minuteloop.records.wandb_service import service_started_early

PROJECT = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
BUCKET = {"id": "b", "name": "r", "displayName": "r", "config": "{}", "historyLineCount": 0, "project": PROJECT}
ANSWERS = {
    "RunResumeStatus": {"model": PROJECT | {"bucket": None}},
    "UpsertBucket": {"upsertBucket": {"bucket": BUCKET, "inserted": True}},
    "ServerFeaturesQuery": {"serverInfo": {"features": []}},
}


class Dripping(http.server.BaseHTTPRequestHandler):
    """Answers what starts a run; sends one byte each half second for everything else."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode(errors="replace")
        answer = next((data for name, data in ANSWERS.items() if f" {name}" in body), None)
        text = json.dumps({"data": answer}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)) if answer else "100000")
        self.end_headers()
        if answer:
            self.wfile.write(text)
            return
        try:
            while True:
                self.wfile.write(b" ")
                time.sleep(0.5)
        except OSError:
            pass  # the client has gone

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.mark.exhaustive
def test_server_that_sends_a_byte_each_half_second_costs_bounded_time(cwd):
    code = f"""if True:
        from minuteloop import run
        from minuteloop.records import wandb_logger
        wandb_logger.FINISH_TIMEOUT = 1
        run({[*QUICK, "budget=60steps", "logger.pictures=false"]})
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = {
            "WANDB_MODE": "online",
            "WANDB_API_KEY": 40 * "0",
            "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}",
            "NETRC": str(cwd / "none"),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, timeout=120
        )
        ended = time.time()
        server.shutdown()
    assert done.returncode == 0 and "panic" not in done.stderr, done.stderr
    # a thread of W&B's own may still talk to its process, which has been ended
    assert done.stderr.count("Traceback") == done.stderr.count("in thread wandb-ServiceFinalizer"), done.stderr
    log = (cwd / "mine/log.txt").read_text()
    assert "W&B: no answer yet; waiting for at most 3 s more\n" in log
    assert "warning: W&B failed and is skipped from now on: no answer within 6 s\n" in log
    assert ended - (cwd / "mine/result.json").stat().st_mtime < 20, "W&B's telemetry waited for 30 s"


def test_wandb_sends_no_telemetry():
    from wandb.analytics.opentelemetry import opentelemetry_proxy

    with service_started_early(True):
        pass
    assert opentelemetry_proxy.get_open_telemetry_proxy() is None
