"""The webhook: what is posted, what the answer means, and where it does not go."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from serving import MIB, Guarding

from oomguard.decide.plan import HookPlan


class Handler(BaseHTTPRequestHandler):
    """Remembers what was posted, and answers what the test says."""

    def do_POST(self) -> None:
        """Take a request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
        status, answer = self.server.answer
        self.send_response(status)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def app() -> Iterator[Any]:
    """An app with an HTTP server."""
    server: Any = HTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.answer = [], (200, b'{"freed_bytes": 12345}')
    server.url = f"http://127.0.0.1:{server.server_port}/release?now=1"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def plan(url: str, **more: Any) -> HookPlan:
    return HookPlan("webhook", "webhook", address=url, **more)


def test_the_app_hears_what_is_wanted_and_says_what_it_freed(guard: Guarding, app: Any, folder: Path) -> None:
    """Everything a hook may want to know is posted as JSON, with the token from its file."""
    (folder / "token").write_text("t0ken\n")
    outcome = guard.ask(plan(app.url, password_file=str(folder / "token")), needed_bytes=5 * MIB, ratio=0.5)
    assert (outcome.ok, outcome.freed_bytes) == (True, 12345)
    path, headers, body = app.seen[0]
    assert path == "/release?now=1"
    assert headers["Authorization"] == "Bearer t0ken"
    assert body == {"level": 4, "needed_bytes": 5 * MIB, "release_all": False, "ratio": 0.5, "deadline_s": 5.0,
                    "reason": "a test", "target": "app"}


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"freed_bytes": null}'])
def test_an_app_may_not_know(guard: Guarding, app: Any, answer: bytes) -> None:
    """No figure is an unknown figure."""
    app.answer = (204, answer)
    outcome = guard.ask(plan(app.url))
    assert outcome.ok
    assert math.isnan(outcome.freed_bytes)


@pytest.mark.parametrize(("status", "answer", "why"), [
    (500, b"", "status 500"), (302, b"", "status 302"), (200, b"[1]", "not an object"), (200, b"{", "no JSON"),
    (200, b'{"freed_bytes": -1}', "not in 0"), (200, b'{"freed_bytes": 1e300}', "not in 0"),
    (200, b'{"freed_bytes": "1"}', "not in 0"), (200, b'{"freed_bytes": true}', "not in 0"),
    (200, b"x" * 70_000, "longer than"), (200, b"[" * 60_000, "no JSON"), (200, b"\xff", "no JSON"),
])
def test_what_is_no_answer_is_a_failure_with_a_reason(
    guard: Guarding, app: Any, status: int, answer: bytes, why: str,
) -> None:
    """Errors, redirects and nonsense are told, and no figure is taken from them."""
    app.answer = (status, answer)
    outcome = guard.ask(plan(app.url))
    assert not outcome.ok
    assert why in outcome.why
    assert math.isnan(outcome.freed_bytes)


def test_a_dry_run_posts_nothing(guarding: Callable[..., Guarding], app: Any) -> None:
    """The app is not asked."""
    assert guarding(dry_run=True).ask(plan(app.url)).why == "dry run"
    assert app.seen == []
