"""A reader of a file larger than the limit: charged up to the limit, yet nearly all of it can be taken back at once."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from typing import ClassVar

from oomguard.learn.lab.objects import Line, Objects
from oomguard.learn.lab.program import Program, ProgramGoneError

FILE_RATIO = 1.2            # of the limit
BLOCK_BYTES = 1 << 20
# Reads what it was last told of the file over and over, a block at a time, 16 MB/s at most; with nothing to read it
# waits for orders. A line is a number of blocks, and is answered.
READER = r"""
$| = 1;
open(my $file, '<', 'data') or die;
my ($blocks, $at) = (0, 0);
while (1) {
    my $ready = ''; vec($ready, 0, 1) = 1;
    if (select($ready, undef, undef, $blocks ? 0.0625 : undef)) {
        sysread(STDIN, my $line, 64) or exit; $blocks = $1 if $line =~ /(\d+)\n$/;
        print "ok\n";
    }
    next unless $blocks;
    $at = 0 if $at >= $blocks;
    sysseek($file, $at++ << 20, 0); sysread($file, my $data, 1 << 20);
}
"""


class Driver(Program):
    """A perl that reads. What it holds is page cache: never a reason for a kill, whatever the wish."""

    needs: ClassVar = ("perl",)
    base_bytes: ClassVar[float] = 3.0e6
    charge_ratio: ClassVar[float] = 0.0     # of what cannot be taken back; charged it is up to the limit

    def start(self) -> None:
        """Make the file and start the reader."""
        self.file_blocks = int(self.spec.limit_bytes * FILE_RATIO) // BLOCK_BYTES + 1
        self._make_file()
        self.told_blocks = 0
        child = self.spawn(["nice", "-n", "5", "perl", "-e", READER],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        if child.stdin is None or child.stdout is None:
            raise ProgramGoneError("perl has no pipes")
        self.line = Line(child.stdin.fileno(), child.stdout.fileno(), b"ok\n")

    def _make_file(self) -> None:
        """Write it outside the cgroup, and leave none of it in memory: who reads it first is charged."""
        blocks = Objects(self.spec.seed, BLOCK_BYTES // 2, BLOCK_BYTES // 2)
        fd = os.open(f"{self.spec.folder}/data", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for number in range(self.file_blocks):
                os.write(fd, blocks.content(2 * number) + blocks.content(2 * number + 1))
                if number % 16 == 15:
                    os.fdatasync(fd)
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def hold(self, size_bytes: float) -> None:
        """Read so much of the file over and over; all of it where the wish is larger."""
        self.check()
        blocks = min(int(max(size_bytes, 0.0)) // BLOCK_BYTES, self.file_blocks)
        if blocks != self.told_blocks and self.line.ask(b"%d\n" % blocks, 1):
            self.told_blocks = blocks

    def stop(self) -> None:
        """End it and remove the file."""
        super().stop()
        with suppress(FileNotFoundError):
            os.unlink(f"{self.spec.folder}/data")
