"""Boot a virtual device, a small Debian under plain emulation, and run commands inside it.

The device has systemd as PID 1, cgroup v2 with every controller, PSI and `memory.reclaim`, on any x86 host,
rights or KVM or not: what a container or a continuous-integration machine cannot show, it can.

    with boot() as device:
        print(device.run("cat", "/sys/fs/cgroup/cgroup.controllers").out)

Its disk is thrown away at the end (QEMU's snapshot), so several may boot from one image at a time.
"""

import contextlib
import io
import json
import os
import re
import socket
import struct
import subprocess
import tarfile
import tempfile
import time
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from bench.lab.image import Image, LabError, Recipe, Say, build, ensure_host

MEMORY_MIB = 512
BOOT_TIMEOUT_S = 180.0   # 13 s on an idle machine of two cores
COMMAND_TIMEOUT_S = 60.0
ANSWER_SLACK_S = 30.0    # what a busy host may add to a command's own time limit
SHUTDOWN_TIMEOUT_S = 60.0
BOOT_TRIES = 4
POLL_S = 0.5
# Without -cx16 three of five Debian 13 boots panicked in the allocator under emulation (QEMU 7.2, tried).
CPU = "max,-cx16"
# Debian's cloud kernel has NVMe and ext4 built in (virtio-blk is a module): no initrd to make and unpack.
# panic=-1: a panic starts the device again at once; whoever waits for it sees the panic on its console.
KERNEL_LINE = "root=/dev/nvme0n1 rw console=ttyS0 psi=1 panic=-1 systemd.hostname=device"
FRESH_CGROUP = """
[ ! -d "$1" ] || echo 1 > "$1/cgroup.kill"
while [ -d "$1" ]; do rmdir "$1" 2> /dev/null || sleep 0.1; done
mkdir "$1"
echo "$2" > "$1/memory.max"
echo 0 > "$1/memory.swap.max"
"""


class PanicError(LabError):
    """The device's kernel panicked."""


class CommandError(LabError):
    """A command that must succeed did not; the device is up all the same."""


class Result(NamedTuple):
    """What a command in the device did: status as a shell counts it (128 + signal; 137 is a kill)."""

    status: int
    out: str
    err: str
    is_timed_out: bool


class Device:
    """One running virtual device."""

    def __init__(self, image: Image, memory_mib: int = MEMORY_MIB, cpus: int = 2) -> None:
        self.panics: tuple[str, ...] = ()  # of earlier tries, put there by boot()
        self.boot_s = 0.0
        # Files without names; both are closed in close().
        self._console, self._log = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(POLL_S)
        with theirs:
            # setpriv: the kernel ends QEMU when we end, however we end.
            fds = (self._console.fileno(), theirs.fileno())
            command = ["setpriv", "--pdeathsig", "KILL", "--", *qemu_command(image, fds, memory_mib, cpus)]
            self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log,
                                          stderr=self._log, pass_fds=fds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close(is_clean=kind is None)

    def wait_until_up(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Wait for the agent's first word.

        Raises:
            PanicError: the kernel panicked; LabError: QEMU ended or time ran out.

        """
        start_s = time.monotonic()
        self._receive(start_s + timeout_s, "boot")
        self.boot_s = time.monotonic() - start_s

    def reboot(self, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        """Restart the device in an orderly way, as its owner would, and wait until it is up; its disk stays."""
        request = {"argv": ["systemctl", "--no-block", "reboot"], "env": {}, "timeout_s": timeout_s, "in_bytes": 0}
        header = json.dumps(request).encode()
        start_s = time.monotonic()
        self._send(struct.pack(">I", len(header)) + header, start_s + timeout_s, "reboot")
        while not self._receive(start_s + timeout_s, "reboot").get("ready"):
            pass                # the command's own answer, where it comes before the agent is stopped: of no bytes
        self.boot_s = time.monotonic() - start_s

    def run(self, *argv: str, timeout_s: float = COMMAND_TIMEOUT_S, stdin: bytes = b"",
            env: dict[str, str] | None = None) -> Result:
        """Run one command as root and wait for it; past `timeout_s` its process group is killed.

        For a program that goes on in the background, use systemd-run, as on any device.
        """
        header, out, err = self._ask(argv, timeout_s, stdin, env or {})
        return Result(header["status"], out.decode(errors="replace"), err.decode(errors="replace"),
                      header["timed_out"])

    def sh(self, script: str, *args: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a shell script that must succeed (under -eu; args are $1 …); return its output, stripped."""
        result = self.run("sh", "-euc", script, "sh", *args, timeout_s=timeout_s)
        if result.status:
            said = f"{script.strip()}\n{result.err}{result.out}"
            raise CommandError(f"in the device, exit status {result.status}: {said}")
        return result.out.strip()

    def make_cgroup(self, name: str, limit_bytes: int) -> str:
        """Make a fresh cgroup with that memory.max and no swap; return its folder.

        Whoever is in one of that name is killed first.
        """
        folder = f"/sys/fs/cgroup/{name}"
        self.sh(FRESH_CGROUP, folder, str(limit_bytes))
        return folder

    def put(self, local: str, folder: str) -> None:
        """Copy a file or a folder of the host into a folder of the device."""
        with io.BytesIO() as buffer:
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                tar.add(local, arcname=os.path.basename(os.path.abspath(local)))
            script = 'mkdir -p "$1" && tar -x --no-same-owner -C "$1"'
            result = self.run("sh", "-c", script, "sh", folder, stdin=buffer.getvalue())
        if result.status:
            raise LabError(f"put {local}: {result.err}")

    def get(self, path: str, local_folder: str) -> None:
        """Copy a file or a folder of the device into a folder of the host."""
        folder, name = os.path.split(path.rstrip("/"))
        header, out, err = self._ask(("tar", "-c", "-C", folder, "--", name), COMMAND_TIMEOUT_S, b"", {})
        if header["status"]:
            raise LabError(f"get {path}: {err.decode(errors='replace')}")
        with tarfile.open(fileobj=io.BytesIO(out)) as tar:
            tar.extractall(local_folder, filter="data")

    def console(self) -> str:
        """Return what the device has printed on its serial console so far."""
        return re.sub(r"\x1b\[[0-9;?!]*[A-Za-z]", "", text_of(self._console))

    def close(self, is_clean: bool = True) -> None:
        """Shut the device down (cleanly where it still answers), and leave no QEMU and no file behind."""
        try:
            if is_clean and self._qemu.poll() is None:
                with contextlib.suppress(LabError, subprocess.TimeoutExpired):
                    # --force: a thrashing unit is not waited for; file systems are unmounted all the same.
                    self.run("systemctl", "--force", "--no-block", "poweroff", timeout_s=20)
                    self._qemu.wait(SHUTDOWN_TIMEOUT_S)
        finally:
            self._qemu.kill()
            self._qemu.wait()
            for file in (self._channel, self._console, self._log):
                file.close()

    def _ask(self, argv: tuple[str, ...], timeout_s: float, stdin: bytes,
             env: dict[str, str]) -> tuple[dict[str, Any], bytes, bytes]:
        request = {"argv": argv, "env": env, "timeout_s": timeout_s, "in_bytes": len(stdin)}
        header = json.dumps(request).encode()
        deadline_s = time.monotonic() + timeout_s + ANSWER_SLACK_S
        what = " ".join(argv[:3])
        self._send(struct.pack(">I", len(header)) + header + stdin, deadline_s, what)
        reply = self._receive(deadline_s, what)
        out = self._read(reply["out_bytes"], deadline_s, what)
        return reply, out, self._read(reply["err_bytes"], deadline_s, what)

    def _send(self, data: bytes, deadline_s: float, what: str) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._channel.send(view):]
            except (TimeoutError, ConnectionError):
                self._check(deadline_s, what)

    def _receive(self, deadline_s: float, what: str) -> dict[str, Any]:
        (length,) = struct.unpack(">I", self._read(4, deadline_s, what))
        header: dict[str, Any] = json.loads(self._read(length, deadline_s, what))
        return header

    def _read(self, count: int, deadline_s: float, what: str) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                piece = self._channel.recv(min(count - len(data), 1 << 20))
            except TimeoutError:
                piece = b""
            if not piece:
                self._check(deadline_s, what)
            data += piece
        return bytes(data)

    def _check(self, deadline_s: float, what: str) -> None:
        """Raise if the device cannot answer any more: a panic, QEMU gone, or time run out."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._qemu.wait(0.05)
        console = self.console()
        if panic := re.search(r"Kernel panic.*", console):
            raise PanicError(panic.group())
        tail = "\n".join(console.splitlines()[-15:])
        if self._qemu.poll() is not None:
            said = f"QEMU ended with status {self._qemu.poll()}: {text_of(self._log)}"
            raise LabError(f"{what}: {said}\n{tail}")
        if time.monotonic() > deadline_s:
            raise LabError(f"{what}: no answer from the device in time; its console ends with\n{tail}")


def text_of(file: IO[bytes]) -> str:
    """Return all that has been written to a file that QEMU writes, too."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def qemu_command(image: Image, fds: tuple[int, int], memory_mib: int, cpus: int) -> list[str]:
    """Return QEMU's command line; emulation only: KVM may be there and still fail in nested machines."""
    console_fd, channel_fd = fds
    return ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", str(cpus),
            "-m", str(memory_mib), "-nodefaults", "-display", "none",
            "-serial", f"file:/proc/self/fd/{console_fd}",
            "-drive", f"if=none,id=root,file={image.disk},format=raw,snapshot=on,file.locking=off",
            "-device", "nvme,id=nvme,serial=oomguard", "-device", "nvme-ns,drive=root,bus=nvme,nsid=1",
            "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,fd={channel_fd}",
            "-device", "virtserialport,chardev=agent,name=oomguard.0",
            "-kernel", image.kernel, "-append", KERNEL_LINE]


def boot(memory_mib: int = MEMORY_MIB, cpus: int = 2, tries: int = BOOT_TRIES, say: Say = print,
         recipe: Recipe | None = None) -> Device:
    """Boot a device from the cached image of a recipe (built first where there is none); try again after a panic.

    Panics of earlier tries are said, and kept in `panics` of the device that came up.
    """
    image = build(say=say, recipe=recipe)
    ensure_host(say)
    panics: list[str] = []
    while True:
        device = Device(image, memory_mib, cpus)
        try:
            say(f"device: booting, try {len(panics) + 1} of {tries} (about 15 s)")
            device.wait_until_up()
        except PanicError as panic:
            device.close(is_clean=False)
            panics.append(str(panic))
            say(f"device: {panic}")
            if len(panics) == tries:
                raise
        except BaseException:
            device.close(is_clean=False)
            raise
        else:
            device.panics = tuple(panics)
            say(f"device: up after {device.boot_s:.1f} s")
            return device
