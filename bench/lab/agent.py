"""Inside a virtual device: run what the host asks for over a virtio-serial port, one command at a time.

One frame either way: four bytes of length (big-endian), a JSON header, then the bytes that the header counts.
Asked: `{argv, env, timeout_s, in_bytes}`, standard input. Answered: `{status, timed_out, out_bytes,
err_bytes}`, output, errors. The first frame, `{ready}`, is ours. bench/lab/device.py is the other end.
Input and output go through files on the disk: a program left in the background cannot hold the answer back,
as it could with a pipe, and nothing large stays in the device's memory.
"""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile

PORT = "/dev/virtio-ports/oomguard.0"
SPOOL = "/var/tmp"
PIECE_BYTES = 1 << 16
# Our own oom_score_adj, -1000, would be inherited.
BE_KILLABLE = ["sh", "-c", 'echo 0 > /proc/self/oom_score_adj; exec "$@"', "sh"]


def read_exactly(port, count):
    """Return `count` bytes of the port; end of file is the host gone, and so the end of the agent."""
    pieces = []
    while count:
        piece = port.read(min(count, PIECE_BYTES))
        if not piece:
            sys.exit("the host has closed the port")
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def send(port, header, *bodies):
    """Write one frame; each body is an open file."""
    text = json.dumps(header).encode()
    write_all(port, struct.pack(">I", len(text)) + text)
    for body in bodies:
        body.seek(0)
        while piece := body.read(PIECE_BYTES):
            write_all(port, piece)


def write_all(port, data):
    """Write all of `data`: a raw port may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[port.write(view):]


def receive(port, spool):
    """Read one frame: its header, and its body into the file `spool`."""
    (length,) = struct.unpack(">I", read_exactly(port, 4))
    header = json.loads(read_exactly(port, length))
    left = header["in_bytes"]
    while left:
        piece = read_exactly(port, min(left, PIECE_BYTES))
        spool.write(piece)
        left -= len(piece)
    spool.seek(0)
    return header


def run(request, stdin, out, err):
    """Run one command; return its exit status as a shell counts it (128 + signal), and if time ran out."""
    process = subprocess.Popen([*BE_KILLABLE, *request["argv"]], stdin=stdin, stdout=out, stderr=err,
                               cwd="/root", env={**os.environ, **request["env"]}, start_new_session=True)
    try:
        status, timed_out = process.wait(request["timeout_s"]), False
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status, timed_out = process.wait(), True
    return (status if status >= 0 else 128 - status), timed_out


def main():
    """Say that the device is up, then answer for ever."""
    with open(PORT, "r+b", buffering=0) as port:
        send(port, {"ready": True})
        while True:
            with contextlib.ExitStack() as files:
                stdin, out, err = (files.enter_context(tempfile.TemporaryFile(dir=SPOOL)) for _ in range(3))
                status, timed_out = run(receive(port, stdin), stdin, out, err)
                sizes = {"out_bytes": out.seek(0, os.SEEK_END), "err_bytes": err.seek(0, os.SEEK_END)}
                send(port, {"status": status, "timed_out": timed_out, **sizes}, out, err)


if __name__ == "__main__":
    main()
