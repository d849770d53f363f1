"""Build, boot or use virtual devices, small Debians with systemd under plain emulation, or survey guards on them."""

import argparse
import os
import signal
import sys
import tempfile
import time

from bench.lab.device import MEMORY_MIB, boot
from bench.lab.image import LabError, build
from bench.lab.payload import build_wheel, install
from bench.lab.survey_command import add_verbs


def say_on_stderr(text: str) -> None:
    """Show progress where it does not mix with a command's output."""
    print(text, file=sys.stderr, flush=True)


def run_command(arguments: argparse.Namespace) -> int:
    """Carry out `run`: a fresh device, what is to be put in, one command, its output and its status."""
    with boot(arguments.memory, say=say_on_stderr) as device, tempfile.TemporaryDirectory() as scratch:
        if arguments.package:
            say_on_stderr("device: installing oomguard")
            install(device, build_wheel(scratch))
        for path in arguments.put:
            device.put(path, "/root")
        result = device.run(*arguments.command, timeout_s=arguments.timeout)
        sys.stdout.write(result.out)
        sys.stderr.write(result.err)
        if result.is_timed_out:
            say_on_stderr(f"device: killed after {arguments.timeout:g} s")
        return result.status


def boot_command(arguments: argparse.Namespace) -> int:
    """Carry out `boot`: a device whose shell reads lines from standard input, until end of file."""
    with boot(arguments.memory, say=say_on_stderr) as device:
        say_on_stderr("device: each line is run by sh as root; end with Ctrl-D")
        for line in sys.stdin:
            result = device.run("sh", "-c", line)
            sys.stdout.write(result.out)
            sys.stdout.flush()
            sys.stderr.write(result.err + (f"exit status {result.status}\n" if result.status else ""))
    return 0


def build_command(arguments: argparse.Namespace) -> int:
    """Carry out `build`."""
    start_s = time.monotonic()
    image = build(arguments.again, say_on_stderr)
    size_mb = os.stat(image.disk).st_blocks * 512 / 1e6
    say_on_stderr(f"image: ready after {time.monotonic() - start_s:.1f} s, {size_mb:.0f} MB")
    print(os.path.dirname(image.disk))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    what = (__doc__ or "").split("\n", maxsplit=1)[0]
    top = argparse.ArgumentParser(prog="python -m bench.lab", description=what)
    verbs = top.add_subparsers(required=True, metavar="build|boot|run|survey|page")
    verb = verbs.add_parser("build", help="build the disk image, if it is not in the cache")
    verb.add_argument("--again", action="store_true", help="also if it is")
    verb.set_defaults(function=build_command)
    for name, function, text in (("boot", boot_command, "boot a device and run each line of standard input"),
                                 ("run", run_command, "boot a device, run one command, end with its status")):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("--memory", type=int, default=MEMORY_MIB, metavar="MIB",
                          help="default: %(default)s")
        verb.set_defaults(function=function)
    verb.add_argument("--put", action="append", default=[], metavar="PATH", help="copy it to /root first")
    verb.add_argument("--package", action="store_true", help="install oomguard from this work tree first")
    verb.add_argument("--timeout", type=float, default=600, metavar="S", help="default: %(default)s")
    verb.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    add_verbs(verbs)
    return top


def main() -> int:
    """Run one verb; a failure is one line and status 1, Ctrl-C leaves no QEMU behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    arguments = parser().parse_args()
    if getattr(arguments, "command", None) and arguments.command[0] == "--":
        del arguments.command[0]
    if getattr(arguments, "command", None) == []:
        parser().error("run: name a command")
    try:
        return int(arguments.function(arguments))
    except LabError as error:
        say_on_stderr(f"device: {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
