"""Chromium: a headless page that holds ArrayBuffers, objects and canvases.

A kill hits one of its processes, mostly the page's: the program counts as gone when the page has crashed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from typing import TYPE_CHECKING, Any

from oomguard.learn.lab.program import Program, ProgramGoneError, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

START_S = 60.0
ANSWER_S = 5.0
STEP_BYTES = 12 << 20           # a call; there are two a second
NEAR_BYTES = 256 << 10
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-zygote", "--disable-extensions",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
         "--disable-dev-shm-usage", "--disable-software-rasterizer", "--disable-breakpad", "--mute-audio",
         "--renderer-process-limit=1", "--remote-debugging-pipe", "--js-flags=--expose-gc --max-old-space-size=16384")
CRASHES = frozenset({"Target.targetCrashed", "Inspector.targetCrashed", "Inspector.detached",
                     "Target.detachedFromTarget"})
SCRIPT = r"""
let state = SEED >>> 0;
function random() {
    state = (state + 0x6D2B79F5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const pool = new Uint8Array(1 << 20);
for (let i = 0; i < pool.length; i++) pool[i] = i % 64 < 32 ? 97 + i % 23 : random() * 256;
const shares = [0.3 + random(), random(), random() * 0.5];
const data = [], cache = [];
let held = 0, kept = 0, most = 0;
function piece(size) {
    const at = Math.floor(random() * (pool.length - size));
    return pool.slice(at, at + size);
}
function put() {
    const at = random() * (shares[0] + shares[1] + shares[2]);
    if (at < shares[0]) {
        const size = 65536 + Math.floor(random() * 262144);
        data.push([piece(size), size]);
    } else if (at < shares[0] + shares[1]) {
        const rows = [];
        for (let i = 0; i < 400; i++) {
            rows.push({id: i, at: random(), name: 'row' + random(), tags: [i, 1.5, random()]});
        }
        data.push([rows, 400 * 200]);
    } else {
        const canvas = document.createElement('canvas');
        canvas.width = 256; canvas.height = 128 + Math.floor(random() * 256);
        const ink = canvas.getContext('2d', {willReadFrequently: true});
        const size = 1024 * canvas.height;
        ink.putImageData(new ImageData(new Uint8ClampedArray(piece(size).buffer), 256, canvas.height), 0, 0);
        data.push([canvas, size]);
    }
    held += data[data.length - 1][1];
}
function obey(want, keep, step) {
    const stop = Math.min(want, held + step), room = Math.min(keep, kept + step);
    most = Math.max(most, held + kept);
    while (held < stop) put();
    while (held > want && data.length) held -= data.pop()[1];
    for (; kept + 262144 <= room; kept += 262144) cache.push(piece(262144));
    for (; kept > keep; kept -= 262144) cache.pop();
    if (most - held - kept > Math.max(8 << 20, most / 16)) { gc(); most = held + kept; }
    return [Math.min(held, want), kept];
}
"""


class Driver(Program):
    """Drives it over its debugging pipe."""

    needs = ("chromium",)
    # Measured, Chromium 156 in a v1 cgroup: 177 MiB in 8 processes, 0.90 to 1.06 held; 0.93 kept.
    base_bytes = 177 * (1 << 20)
    charge_ratio = 1.0
    has_cache = True

    def __init__(self, spec: Spec, enter: Callable[[], None]) -> None:
        """See Program."""
        super().__init__(spec, enter)
        self._wish, self._got = [0, 0], [0, 0]
        self._serial, self._session, self._rest = 0, "", b""
        self._waits_for = 0             # the order that was not answered yet

    def start(self) -> None:
        """Start it, open the page and give it its script."""
        folder = self.spec.folder
        # The pipe is its descriptors 3 and 4; the shell moves them there, whatever they are called here.
        self.spawn(["sh", "-c", 'exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null', "chromium", *FLAGS,
                    f"--user-data-dir={folder}/profile", "about:blank"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                   bufsize=0, env={"PATH": os.environ.get("PATH", os.defpath), "HOME": folder, "TMPDIR": folder})
        target = self._ask("Target.createTarget", START_S, url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", START_S, targetId=target, flatten=True)["sessionId"]
        self._ask("Inspector.enable", START_S)
        self._ask("Runtime.evaluate", START_S, expression=SCRIPT.replace("SEED", str(self.spec.seed)))

    def hold(self, size_bytes: float) -> None:
        """Order the page, if there is anything to do."""
        self._wish[0] = int(size_bytes)
        self._order()

    def keep(self, size_bytes: float) -> None:
        """Order the page, if there is anything to do."""
        self._wish[1] = int(size_bytes)
        self._order()

    def _order(self) -> None:
        self.check()
        self._listen(0, 0.0)            # has it crashed meanwhile?
        if self._waits_for and not self._take(ANSWER_S):
            return
        if any(abs(wish - got) >= NEAR_BYTES for wish, got in zip(self._wish, self._got, strict=True)):
            expression = f"obey({self._wish[0]}, {self._wish[1]}, {STEP_BYTES})"
            self._waits_for = self._send("Runtime.evaluate", expression=expression, returnByValue=True)
            self._take(ANSWER_S)

    def _take(self, wait_s: float) -> bool:
        """Take the answer to the last order; return whether it came."""
        answer = self._listen(self._waits_for, wait_s)
        if answer is None:
            return False
        self._waits_for = 0
        value = answer.get("result", {}).get("value")
        if isinstance(value, list):     # else an exception in the page: RangeError: Array buffer allocation failed
            self._got = [int(number) for number in value]
        return True

    def _ask(self, method: str, wait_s: float, **parameters: object) -> dict[str, Any]:
        answer = self._listen(self._send(method, **parameters), wait_s)
        if answer is None:
            raise ProgramGoneError(f"{self.spec.program}: no answer to {method}")
        return answer

    def _send(self, method: str, **parameters: object) -> int:
        """Send a message of the DevTools protocol; they end with a NUL on the pipe."""
        self._serial += 1
        message: dict[str, object] = {"id": self._serial, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        pipe = self.children[0].stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            self._ended()
        return self._serial

    def _listen(self, serial: int, wait_s: float) -> dict[str, Any] | None:
        """Read until the answer `serial` has come or time is over. Raises ProgramGoneError when the page crashed."""
        pipe = self.children[0].stdout
        assert pipe is not None
        until_s = time.monotonic() + wait_s
        while True:
            while b"\0" in self._rest:
                text, _, self._rest = self._rest.partition(b"\0")
                message = json.loads(text)
                if message.get("method") in CRASHES:
                    raise ProgramGoneError(f"{self.spec.program}: {message['method']}")
                if serial and message.get("id") == serial:
                    if "error" in message:
                        raise ProgramGoneError(f"{self.spec.program}: {message['error'].get('message')}")
                    result: dict[str, Any] = message.get("result", {})
                    return result
            if not select.select([pipe], [], [], max(until_s - time.monotonic(), 0.0))[0]:
                return None
            piece = os.read(pipe.fileno(), 65536)
            if not piece:
                self._ended()
            self._rest += piece

    def _ended(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.children[0].wait(ANSWER_S)
        raise ProgramGoneError(f"{self.spec.program}: ended with {self.children[0].returncode}")

    def stop(self) -> None:
        """End it and all of its processes."""
        super().stop()
        for child in self.children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, 9)
