"""Chromium and Electron give memory back through the DevTools protocol: a simulated memory pressure in all processes,
then a garbage collection in each tab and worker.

Needs `--remote-debugging-port=PORT`, whose holder can do anything in the browser: keep it on loopback. What is
freed is what the resident memory (anonymous and shared) of the browser's processes, which it names itself, fell by.
"""

from __future__ import annotations

import json

from oomguard.act.servers import http
from oomguard.act.servers.ask import Ask, Freed, ServerError, Task
from oomguard.act.servers.resident import resident_bytes, settle_bytes
from oomguard.act.servers.stream import Connection
from oomguard.act.servers.websocket import WebSocket
from oomguard.typed import Any

LIST_MAX_BYTES = 4 << 20
TABS_MAX = 256
EVENTS_MAX = 10_000
COLLECTED = ("page", "iframe", "webview", "worker", "service_worker", "shared_worker", "background_page")
CRITICAL_LEVEL = 4          # from this level on, and where everything is asked for


class DevTools:
    """A conversation in the DevTools protocol."""

    __slots__ = ("_number", "_socket")

    def __init__(self, socket: WebSocket) -> None:
        self._socket, self._number = socket, 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return a method's result. Raises ServerError when it is refused."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        for _ in range(EVENTS_MAX):
            message = _object(self._socket.receive())
            if message.get("id") == self._number:
                break
        else:
            raise ServerError(f"{method} was answered with {EVENTS_MAX} events")
        result = message.get("result")
        if not isinstance(result, dict):
            raise ServerError(f"{method} was refused: {message.get('error')!r:.200}")
        return result


def release(ask: Ask, task: Task) -> Freed:
    """Let a browser feel memory pressure, and collect garbage in its tabs. Raises ServerError."""
    browser = _get(ask, task, "/json/version")
    if not isinstance(browser, dict):
        raise ServerError("/json/version is not answered with an object")
    tabs = [tab for tab in _list(ask, task) if tab.get("type") in COLLECTED]
    with _converse(ask, task, browser) as socket:
        devtools = DevTools(socket)
        pids = _pids(devtools.call("SystemInfo.getProcessInfo"))
        if ask.is_dry_run:
            return Freed(None, f"dry run: {len(tabs)} tabs and workers, {len(pids)} processes")
        before_bytes = resident_bytes(pids)
        level = "critical" if ask.release_all or ask.level >= CRITICAL_LEVEL else "moderate"
        devtools.call("Memory.simulatePressureNotification", level=level)
    silent = sum(not _collect(ask, task, tab) for tab in tabs)
    remark = f"{level} pressure, {len(tabs) - silent} of {len(tabs)} tabs and workers collected"
    if before_bytes is None:
        return Freed(None, remark + "; its processes cannot be seen from here")
    after_bytes = settle_bytes(pids, before_bytes - ask.needed_bytes, task)
    return Freed(max(0, before_bytes - after_bytes), remark)


def _collect(ask: Ask, task: Task, tab: dict[str, Any]) -> bool:
    """Return whether a tab collected its garbage; one that is stopped or gone is no reason to leave the others."""
    own = Task(min(task.left_s(), max(0.2, task.left_s() / 2)))
    try:
        with _converse(ask, own, tab) as socket:
            DevTools(socket).call("HeapProfiler.collectGarbage")
    except ServerError:
        return False
    return True


def _converse(ask: Ask, task: Task, tab: dict[str, Any]) -> WebSocket:
    """Open a tab's or the browser's conversation: at the address of the rule, whatever host the answer names."""
    url = tab.get("webSocketDebuggerUrl")
    path = url.partition("://")[2].partition("/")[2] if isinstance(url, str) else ""
    if not path.startswith("devtools/") or not path.isascii() or not path.isprintable() or " " in path:
        raise ServerError("a tab has no address for debugging")
    connection = Connection(ask.address, task)
    try:
        return WebSocket(connection, ask.address, "/" + path)
    except BaseException:
        connection.close()
        raise


def _list(ask: Ask, task: Task) -> list[dict[str, Any]]:
    found = _get(ask, task, "/json/list")
    if not isinstance(found, list):
        raise ServerError("/json/list is not answered with a list")
    return [tab for tab in found[:TABS_MAX] if isinstance(tab, dict)]


def _get(ask: Ask, task: Task, path: str) -> Any:
    with Connection(ask.address, task) as connection:
        data = http.exchange(connection, http.request("GET", path, ask.address, {}, version="1.1"), LIST_MAX_BYTES)
    return _json(data)


def _pids(answer: dict[str, Any]) -> list[int]:
    found = answer.get("processInfo")
    processes = found if isinstance(found, list) else []
    pids = [one.get("id") for one in processes[:TABS_MAX] if isinstance(one, dict)]
    return [pid for pid in pids if type(pid) is int and 0 < pid < 1 << 22]


def _object(data: bytes) -> dict[str, Any]:
    found = _json(data)
    if not isinstance(found, dict):
        raise ServerError("a message is not an object")
    return found


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ServerError(f"the answer is no JSON: {error}") from error
