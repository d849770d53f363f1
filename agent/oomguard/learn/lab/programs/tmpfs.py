"""Files written into a tmpfs: shared memory, charged to who wrote it; its own bound is the mount's size."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from typing import ClassVar

from oomguard.learn.lab.objects import Line, Objects
from oomguard.learn.lab.program import Program, ProgramGoneError

TICK_S = 0.5
FAR_ABOVE = "16g"
# A pool of bytes, half random and half repeated, of which each file gets a stretch. "+ name size" and "- name" are
# orders; "." is answered: what came before it is done. A full mount refuses: the file stays short or is missing.
WRITER = r"""
srand(shift); $| = 1;
$pool = join '', map { join('', map { chr int rand 256 } 1..32) . ('abcdefgh' x 4) } 1..8192;
while (<STDIN>) {
    if (/^\+ (\S+) (\d+)/) {
        open(my $file, '>', "room/$1") or next;
        for (my $left = $2; $left > 0; $left -= 131072) {
            syswrite($file, $pool, $left < 131072 ? $left : 131072, int rand 262144) or last;
        }
        close $file;
    } elsif (/^- (\S+)/) { unlink "room/$1" }
    else { print "ok\n" }
}
"""


class Driver(Program):
    """A perl that writes and removes files in a mount of its own."""

    needs: ClassVar = ("perl",)
    base_bytes: ClassVar[float] = 3.0e6
    charge_ratio: ClassVar[float] = 1.0
    bound_kind: ClassVar[str] = "refuses"

    def start(self) -> None:
        """Mount the tmpfs and start the writer."""
        bound_bytes = self.spec.bound_bytes
        self.held = Objects(self.spec.seed, smallest_bytes=4096, largest_bytes=2 << 20)
        self.room = Room(self.spec.folder, str(int(bound_bytes)) if bound_bytes == bound_bytes else FAR_ABOVE)
        child = self.spawn(["perl", "-e", WRITER, str(self.spec.seed)],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        if child.stdin is None or child.stdout is None:
            raise ProgramGoneError("perl has no pipes")
        self.line = Line(child.stdin.fileno(), child.stdout.fileno(), b"ok\n")
        self.line.ask(b".\n", 1)

    def hold(self, size_bytes: float) -> None:
        """Write files, or remove the oldest."""
        self.check()
        if not self.line.ask():
            return
        added, dropped = self.held.change(size_bytes, self.spec.churn_bytes_per_s * TICK_S)
        orders = [f"+ {number} {self.held.size_of(number)}\n" for number in added]
        orders += [f"- {number}\n" for number in dropped]
        if orders:
            self.line.ask("".join(orders).encode() + b".\n", 1)

    def stop(self) -> None:
        """End it and take its files away."""
        super().stop()
        if hasattr(self, "room"):
            self.room.close()


class Room:
    """A tmpfs of one's own at FOLDER/room; where nothing may be mounted, a folder of /dev/shm without a size."""

    def __init__(self, folder: str, size: str) -> None:
        self.path = f"{folder}/room"
        self._shared = ""
        os.mkdir(self.path)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "oomguard-lab", self.path]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            os.rmdir(self.path)
            self._shared = tempfile.mkdtemp(prefix="oomguard-lab-", dir="/dev/shm")
            os.symlink(self._shared, self.path)

    def close(self) -> None:
        """Give its memory back."""
        if self._shared:
            shutil.rmtree(self._shared, ignore_errors=True)
            os.unlink(self.path)
            self._shared = ""
        elif os.path.ismount(self.path):
            subprocess.run(["umount", "--lazy", self.path], capture_output=True, check=False)
            with suppress(OSError):
                os.rmdir(self.path)
