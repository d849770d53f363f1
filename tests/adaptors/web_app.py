"""A web app that caches a megabyte for each page it is asked for: `gunicorn web_app:app`, or `uvicorn web_app:asgi`.

GUARD: how it is guarded: `alone` (not at all), `worker` (from when a worker has started), `restart` (made and started
before the workers are forked; each goes on by itself).
"""

import os
from collections import OrderedDict

import oomguard

PAGE_BYTES = 1 << 20
WAY = os.environ["GUARD"]
pages: OrderedDict[str, bytes] = OrderedDict()
RULES = os.path.join(os.path.dirname(__file__), "web_rules.yaml")
guard = oomguard.Guard(rules=RULES, cadence_s=0.1, after_fork="restart" if WAY == "restart" else "inert")
guard.adopt(pages, "pages")
if WAY == "restart":
    guard.start()


def page(path: str) -> bytes:
    """Return a page, from the cache if it is there."""
    body = pages.get(path)
    if body is None:
        body = pages[path] = bytes(bytearray(path.encode()[-1:]) * PAGE_BYTES)
    return body


def app(environ, start_response):
    """Serve by WSGI: the length of the page, and the server process's id."""
    body = f"{len(page(environ['PATH_INFO']))} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    """Serve by ASGI; the guard lives as long as the app does."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            if WAY == "worker":
                guard.start()
            await send({"type": "lifespan.startup.complete"})
        guard.stop()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = f"{len(page(scope['path']))} {os.getpid()}".encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
