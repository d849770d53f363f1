"""What was lowered in a server for the moment, on file, so that it is put back whatever happens to the helper.

Contract: a note is written before a setting is changed and removed after it is back. A setting is put back
only where it still has a value that we gave it: an operator who changed it meanwhile is left alone. Notes of a
helper that was killed are found when the next one starts, and tried until the server answers. They lie in the
runtime folder, and so end with the boot, as the settings themselves do: a server that starts anew reads its own file.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from _socket import AF_UNIX, SOCK_DGRAM, socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

from oomguard.act.servers.ask import BusyError, ServerError, Task
from oomguard.errors import NotPermittedError
from oomguard.tell.paths import make_runtime_dir, runtime_dir
from oomguard.typed import NamedTuple

FOLDER = "owed"
SUFFIX = ".json"
NOTE_MAX_BYTES = 16384
NOTES_MAX = 256
KINDS = ("redis", "memcached")
SETTLE_S = 1.0              # for one server; within the grace that the daemon gives after a deadline
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 1.0, 60.0
LOCK_NAME_MAX_BYTES = 90    # of the 107 that an abstract address may have


class Setting(NamedTuple):
    """One setting that was changed."""

    name: str
    original: str
    ours: tuple[str, ...]       # what we set, or were about to


class Note(NamedTuple):
    """What is owed to one server."""

    kind: str
    address: str
    user: str
    password_file: str
    settings: tuple[Setting, ...]


Restore = Callable[[Note, Task], str]       # returns what was done, for people; "" for nothing


def folder() -> str:
    """Return where notes lie."""
    return os.path.join(runtime_dir(), FOLDER)


def write(note: Note) -> None:
    """Put a note on file, in place of an older one of that server. Raises ServerError: then change nothing."""
    plain = note._asdict() | {"settings": [list(setting) for setting in note.settings]}
    path = _path(note)
    try:
        make_runtime_dir(runtime_dir())
        os.makedirs(folder(), mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(path + ".new")
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps(plain).encode())
        finally:
            os.close(fd)
        os.rename(path + ".new", path)
    except (OSError, NotPermittedError) as error:
        raise ServerError(f"nothing was changed: no note for putting it back can be left ({error})") from error


def drop(note: Note) -> None:
    """Remove the note of a server."""
    with suppress(FileNotFoundError):
        os.unlink(_path(note))


def is_noted(note: Note) -> bool:
    """Return whether there is still a note for that server."""
    return os.path.exists(_path(note))


def any_noted() -> bool:
    """Return whether anything is owed."""
    return bool(_names())


def read_all() -> list[Note]:
    """Return every note; one that cannot be read is set aside and told."""
    notes = []
    for name in _names():
        path = os.path.join(folder(), name)
        try:
            notes.append(_read(path))
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            sys.stderr.write(f"oomguard: helper: {path} is no note of ours and is set aside: {error}\n")
            with suppress(OSError):
                os.rename(path, path + ".bad")
    return notes


def settle(note: Note, task: Task) -> str:
    """Put back what a note says and remove it; return what was done. Raises ServerError, and the note stays."""
    module: object = import_module(f"oomguard.act.servers.{note.kind}")
    restore: Restore = getattr(module, "restore")  # noqa: B009  for the type checker
    done = restore(note, task)
    drop(note)
    return done


def settle_all(is_ending: Callable[[], bool], first_rest_s: float = 0.0) -> None:
    """Put everything back, however long it takes; for a thread of its own. Ends with the last note."""
    backoff_s = FIRST_BACKOFF_S
    said: set[str] = set()
    pause = Task(first_rest_s)
    while True:
        pause.rest(first_rest_s)
        for note in read_all():
            if is_ending():
                return
            try:
                done = settle(note, Task(SETTLE_S))
            except BusyError:
                continue
            except (ServerError, OSError) as error:
                done = f"{note.kind} at {note.address} still has our settings, tried again: {error}"
            if done and done not in said:       # a server that stays away is told of once
                said.add(done)
                sys.stderr.write(f"oomguard: helper: {done}\n")
        if not any_noted() or is_ending():
            return
        first_rest_s, pause = backoff_s, Task(backoff_s)
        backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)


@contextmanager
def alone_with(identity: str) -> Iterator[None]:
    """Keep every other helper of this machine away from a server: two would take each other's settings for the
    operator's. Raises BusyError when one is at it. The kernel lets go of the name with its holder.
    """
    lock = socket(AF_UNIX, SOCK_DGRAM)
    try:
        try:
            lock.bind(b"\0oomguard/" + identity.encode()[-LOCK_NAME_MAX_BYTES:])
        except OSError as error:
            raise BusyError("another release of this server is under way") from error
        yield
    finally:
        lock.close()


def _names() -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder()) if name.endswith(SUFFIX))[:NOTES_MAX]
    except OSError:
        return []


def _path(note: Note) -> str:
    number = zlib.crc32(f"{note.address}\n{note.user}".encode())
    return os.path.join(folder(), f"{note.kind}-{number:08x}{SUFFIX}")


def _read(path: str) -> Note:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid not in (os.geteuid(), 0):
            raise ValueError("it belongs to somebody else")
        plain = json.loads(os.read(fd, NOTE_MAX_BYTES))
    finally:
        os.close(fd)
    settings = tuple(Setting(str(name), str(original), tuple(str(value) for value in ours))
                     for name, original, ours in plain["settings"])
    note = Note(str(plain["kind"]), str(plain["address"]), str(plain["user"]), str(plain["password_file"]), settings)
    if note.kind not in KINDS:
        raise ValueError(f"{note.kind!r:.40} is not one of {', '.join(KINDS)}")
    return note
