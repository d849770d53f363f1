"""An HTTP webhook: what is wanted is posted as JSON, and the answer may say what was freed.

Plain HTTP, to this machine unless the rule says `remote: true`; no redirects. Not HTTPS: `ssl` would cost the helper
7 MB (measured), a command hook with curl costs them only while it runs.
"""

from __future__ import annotations

import json

from oomguard.act.servers import http
from oomguard.act.servers.ask import Ask, Freed, ServerError, Task
from oomguard.act.servers.secret import read_secret
from oomguard.act.servers.stream import Connection
from oomguard.decide.addresses import split_url

ANSWER_MAX_BYTES = 65536
FREED_MAX_BYTES = 1 << 53       # what JSON keeps exactly


def release(ask: Ask, task: Task) -> Freed:
    """Post the request to `ask.address`, a URL. Raises ServerError."""
    url = split_url(ask.address)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "oomguard"}
    if ask.password_file:
        headers["Authorization"] = "Bearer " + read_secret(ask.password_file)
    if ask.is_dry_run:
        return Freed(None, "dry run")
    message = http.request("POST", url.path, url.address, headers, body(ask))
    with Connection(url.address, task) as connection:
        return Freed(read_answer(http.exchange(connection, message, ANSWER_MAX_BYTES)))


def body(ask: Ask) -> bytes:
    """Return the JSON that tells what is wanted."""
    return json.dumps({
        "level": ask.level, "needed_bytes": ask.needed_bytes, "release_all": ask.release_all,
        "ratio": ask.ratio if ask.ratio == ask.ratio else None, "deadline_s": ask.deadline_s,
        "reason": ask.reason, "target": ask.target}).encode()


def read_answer(data: bytes) -> int | None:
    """Return `freed_bytes` of an answer; None where it is empty or does not say. Raises ServerError."""
    if not data.strip():
        return None
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ServerError(f"the answer is no JSON: {error}") from error
    if not isinstance(answer, dict):
        raise ServerError(f"the answer is {type(answer).__name__}, not an object")
    freed = answer.get("freed_bytes")
    if freed is None:
        return None
    if type(freed) is not int or not 0 <= freed <= FREED_MAX_BYTES:
        raise ServerError(f"freed_bytes: {freed!r:.40} is not in 0..2^53")
    return freed
