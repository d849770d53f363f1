"""The flight recorder: what a tick recorded goes to the kernel in one write, and to the disk every 30 seconds.

A kill of the daemon loses the tick it is in, at most; a power loss what was written since the last flush, at most
30 s and the disk's own time (the flush runs on a thread of its own, so that a slow disk holds nobody up). Where the
disk refuses, recording pauses, counts what is lost, tries again after 1, 2, 4 … 60 s, and goes on in a new segment.
Nothing here raises into a tick.
"""

from __future__ import annotations

import os
from _thread import start_new_thread
from collections.abc import Callable
from errno import ENOENT
from math import inf

from oomguard.clock import now_s
from oomguard.errors import UsageError
from oomguard.record.layout import HEADER_BYTES, framed
from oomguard.record.recorder import RunRecorder
from oomguard.record.segments import Folder, Limits, write_all
from oomguard.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from oomguard.record.facts import RunFacts

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
KEPT_MAX_BYTES = 65536      # actions, kills and ends that wait for the disk to work again

Tell = Callable[..., None]  # (event, severity, **fields)
Event = tuple[RunRecorder, int, bytes]      # whose, its kind, its payload


def _quiet(_event: str, _severity: str = "info", /, **_fields: object) -> None:
    """Tell nobody."""


class Journal:
    """The one writer of a folder. `tick` has to be called at the end of each tick, of all targets together."""

    __slots__ = ("_dropped_events", "_events", "_events_bytes", "_fd", "_flush_problem", "_flushed_bytes", "_flushes",
                 "_folder", "_frames", "_house_s", "_limits", "_losses", "_owners", "_path", "_pid", "_resumed_s",
                 "_runs", "_size", "_tell", "_wait_s", "generation", "is_paused", "lost_samples", "pause_errno", "seed")

    def __init__(self, path: str, limits: Limits, tell: Tell) -> None:
        """Use `open`."""
        self._path, self._limits, self._tell = path, limits.checked(), tell
        self._folder: Folder | None = None
        self._fd, self._size, self._flushed_bytes, self.seed = -1, 0, 0, 0
        self._frames: list[bytes] = []
        self._owners: list[RunRecorder] = []                    # of each sample in `_frames`
        self._losses: list[tuple[RunRecorder, int]] = []        # told in `_frames`: whose, how many
        self._events: list[Event] = []                          # in `_frames`, or waiting for the disk
        self._events_bytes = self._dropped_events = 0
        self._runs, self.generation, self._pid = 0, 0, os.getpid()
        self._house_s, self._wait_s, self._resumed_s = inf, FIRST_WAIT_S, -inf
        self._flushes: list[int] = []       # under way: the descriptor of each
        self._flush_problem = 0
        self.is_paused, self.pause_errno = False, 0
        self.lost_samples = 0           # of all runs, since the start

    @classmethod
    def open(cls, path: str, limits: Limits = Limits(), tell: Tell = _quiet) -> Journal:  # noqa: B008  immutable
        """Begin to record in the folder `path`; where the disk refuses, wait until it does not.

        Raises:
            UsageError: another process records there, or the limits are absurd.
        """
        journal = cls(path, limits, tell)
        try:
            journal._begin(now_s())
        except OSError as error:
            journal._pause(error, now_s())
        return journal

    def run(self, facts: RunFacts) -> RunRecorder:
        """Return the recorder of a run. A run that a restarted daemon continues has the same facts.run_id."""
        self._runs += 1
        return RunRecorder(self, self._runs & 0xFFFF, facts)

    # -- what recorders hand in ------------------------------------------------------------------------------

    def add(self, frame: bytes, owner: RunRecorder | None) -> None:
        """Take a frame for the next write; a sample says whose it is."""
        self._frames.append(frame)
        if owner is not None:
            self._owners.append(owner)

    def add_loss(self, frame: bytes, owner: RunRecorder, samples: int) -> None:
        """Take the frame that tells a loss; if that is lost too, it will be told again."""
        self._frames.append(frame)
        self._losses.append((owner, samples))

    def lose(self, owner: RunRecorder) -> None:
        """Count a sample that cannot be written."""
        owner.lost_samples += 1
        self.lost_samples += 1

    def add_event(self, owner: RunRecorder, kind: int, payload: bytes) -> None:
        """Take an action, a kill or an end. While the disk refuses, 64 KiB of them are kept."""
        if self._events_bytes + len(payload) > KEPT_MAX_BYTES:
            self._dropped_events += 1
            return
        event = owner, kind, payload
        self._events.append(event)
        self._events_bytes += len(payload)
        if not self.is_paused:
            self._add_event(event)

    def _add_event(self, event: Event) -> None:
        owner, kind, payload = event
        owner.declare_if_new()
        self._frames.append(framed(kind, payload, self.seed))

    # -- once per tick ---------------------------------------------------------------------------------------

    def tick(self, at_s: float) -> None:
        """Hand what this tick recorded to the kernel. Args: at_s: now, CLOCK_BOOTTIME."""
        if os.getpid() != self._pid:
            self.forget()
        if self._frames:
            try:
                self._write()
            except OSError as error:
                self._pause(error, at_s)
        if at_s >= self._house_s:
            self._keep_house(at_s)

    def _write(self) -> None:
        data = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
        write_all(self._fd, data)
        self._size += len(data)
        self._forget_batch()
        if self._events:
            self._events.clear()
            self._events_bytes = 0
        if self._size + len(data) > self._limits.segment_bytes:     # the next one would not fit
            self._next_segment()

    def _forget_batch(self) -> None:
        self._frames.clear()
        self._owners.clear()
        self._losses.clear()

    def _next_segment(self) -> None:
        folder = self._folder
        if folder is not None:
            if self._fd >= 0:
                self._flush(2)              # beside one that is under way: nobody comes back to this segment
                old, self._fd = self._fd, -1
                folder.end_segment(old)
            self._fd, self.seed = folder.begin_segment()
            self._size = self._flushed_bytes = HEADER_BYTES
            self.generation += 1

    def _keep_house(self, at_s: float) -> None:
        """Do what need not be done at each tick."""
        try:
            if self.is_paused:
                self._begin(at_s)
                self._tell("recording-resumed", "notice", folder=self._path, lost_samples=self.lost_samples,
                           lost_events=self._dropped_events)
                return
            self._house_s = at_s + self._limits.sync_s
            self._check()
            if self._folder is not None:
                self._folder.drop_aged()
                if self._folder.is_segment_old(at_s) and self._size > HEADER_BYTES:
                    self._next_segment()
            self._flush()
        except OSError as error:
            self._pause(error, at_s)
        except UsageError as error:         # somebody took the folder over while we waited
            self._house_s = inf
            self._tell("recording-refused", "warning", because=str(error))

    def _begin(self, at_s: float) -> None:
        """Take the folder, begin a segment, and write what has waited for it."""
        self._folder = Folder(self._path, self._limits)
        self._next_segment()
        for event in self._events:
            self._add_event(event)
        if self._frames:
            self._write()
        self.is_paused, self._resumed_s = False, at_s
        self._house_s = at_s + self._limits.sync_s

    def _check(self) -> None:
        if self._flush_problem:
            problem, self._flush_problem = self._flush_problem, 0
            raise OSError(problem, f"{os.strerror(problem)} (at a flush: what the last one left is lost)")
        if os.fstat(self._fd).st_nlink == 0:
            raise OSError(ENOENT, "the file was deleted")

    # -- a disk that refuses ---------------------------------------------------------------------------------

    def _pause(self, error: OSError, at_s: float) -> None:
        """Stop writing; count what this tick loses; say so once; try again later."""
        for owner in self._owners:
            self.lose(owner)
        for owner, samples in self._losses:
            owner.lost_samples += samples
        self._forget_batch()
        self._cut_torn_frame()
        self._let_go()
        if not self.is_paused and at_s - self._resumed_s > self._wait_s:    # it held for longer than we would wait
            self._wait_s = FIRST_WAIT_S
        self._house_s = at_s + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        self.pause_errno = error.errno or 0
        if not self.is_paused:
            self.is_paused = True
            self._tell("recording-paused", "warning", folder=self._path, because=error.strerror or str(error))

    def _cut_torn_frame(self) -> None:
        try:
            if self._fd >= 0:
                os.ftruncate(self._fd, self._size)
        except OSError:
            return                          # the reader drops it, and says so

    def _let_go(self) -> None:
        """Close everything; an empty segment is nothing worth keeping."""
        if self._fd >= 0:
            os.close(self._fd)
            if self._folder is not None and self._size == HEADER_BYTES:
                self._folder.discard_segment()
        if self._folder is not None:
            self._folder.close()
        self._fd, self._folder = -1, None

    # -- the disk --------------------------------------------------------------------------------------------

    def _flush(self, at_once: int = 1) -> None:
        """Have what was written brought to the disk, by a thread that lives so long; `at_once` of them at most."""
        if self._size == self._flushed_bytes or len(self._flushes) >= at_once or self._folder is None:
            return
        fd = folder_fd = -1
        try:
            fd = os.dup(self._fd)
            folder_fd = self._folder.reopened()
            self._flushes.append(fd)
            start_new_thread(self._flush_here, (fd, folder_fd))
            self._flushed_bytes = self._size
        except (OSError, RuntimeError):     # no descriptor, or no memory for its stack: the next flush, or the kernel
            for opened in (fd, folder_fd):
                if opened >= 0:
                    os.close(opened)
            if fd in self._flushes:
                self._flushes.remove(fd)

    def _flush_here(self, fd: int, folder_fd: int) -> None:
        try:
            os.fdatasync(fd)
            os.fsync(folder_fd)
        except OSError as error:
            self._flush_problem = error.errno or 0
        finally:
            self._flushes.remove(fd)
            os.close(fd)
            os.close(folder_fd)

    def forget(self) -> None:
        """In a fork of the writer: let go of what is the parent's, and record nothing more. `tick` does so, too."""
        self._forget_batch()
        if self._fd >= 0:
            os.close(self._fd)
        if self._folder is not None:
            self._folder.forget()
        self._fd, self._folder = -1, None
        self.is_paused, self._house_s = True, inf

    def close(self) -> None:
        """Write what is left; the kernel brings it to the disk. What comes later is not recorded."""
        self.tick(now_s())
        if self.is_paused and self._house_s < inf:
            self._keep_house(now_s())       # a last try, for the events that wait
        self._let_go()
        self.is_paused, self._house_s = True, inf
