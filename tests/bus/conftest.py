"""A real system bus of the tests' own: dbus-daemon on a private address, closed but for what our policy file allows."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.dirname(os.path.dirname(HERE))
POLICY = os.path.join(REPO, "agent/deploy/org.freedesktop.LowMemoryMonitor.conf")
GLIB = os.path.join(HERE, "glib_listener.py")
PATIENCE_S = 30.0
# The default policy of /usr/share/dbus-1/system.conf (dbus 1.14), and Stats so that tests can see who listens.
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type><auth>EXTERNAL</auth><listen>unix:path={path}</listen>
  <policy context="default">
    <allow user="*"/><deny own="*"/><deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Debug.Stats"/>
  </policy>
  {policy}
</busconfig>
"""


def until(is_true, what, said=lambda: ""):
    """Wait for something to become true; `said` tells more where it never does."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (found := is_true()):
        assert time.monotonic() < give_up_s, f"waited in vain for {what}; {said()}"
        time.sleep(0.01)
    return found


class Bus:
    """One dbus-daemon, and programs on it."""

    def __init__(self, has_policy=True):
        self.folder = tempfile.mkdtemp(prefix="oomguard-bus-")      # pytest's own is closed to other users
        os.chmod(self.folder, 0o755)
        self.path = f"{self.folder}/bus"
        self.address = f"unix:path={self.path}"
        self.environ = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.address, "GIO_USE_VFS": "local"}
        policy = f"<include>{POLICY}</include>" if has_policy else ""
        Path(f"{self.folder}/bus.conf").write_text(CONFIG.format(path=self.path, policy=policy))
        self.processes = []
        self.daemon = None
        self.start()

    def start(self):
        """Start the daemon, again if need be."""
        Path(self.path).unlink(missing_ok=True)
        argv = ["dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork", "--nopidfile", "--print-address"]
        self.daemon = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.daemon.stdout.readline().startswith(self.address)

    def kill(self):
        """End the daemon as a crash would."""
        self.daemon.kill()
        self.daemon.communicate()

    def run(self, *argv, **options):
        """Start a program on this bus; its output is read line by line."""
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environ,
                                   bufsize=1, **options)
        self.processes.append(process)
        return process

    def glib(self, is_first=False):
        """Start a program that hears GLib's GMemoryMonitor; wait until GLib listens, unless it `is_first` there."""
        process = self.run(sys.executable, "-I", GLIB)
        assert line_of(process) == "monitor GMemoryMonitorDBus"
        return process if is_first else self.listening(process)

    def listening(self, process):
        """Wait until GLib has its rule on the bus, and is through with all that it asked the monitor."""
        until(lambda: "interface='org.freedesktop.LowMemoryMonitor'" in self.rules(), "GLib to listen", self.rules)
        for _ in range(3):      # GLib asks two more questions that leave no trace on the bus: three of its turns
            self.rules()
            process.send_signal(signal.SIGUSR1)
            assert line_of(process) == "idle"
        return process

    def call(self, *words):
        """Call a method with gdbus; return (exit code, output and errors)."""
        done = subprocess.run(["gdbus", "call", "--system", "--timeout", "10", *words], env=self.environ, text=True,
                              capture_output=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def rules(self):
        """Return the match rules of everyone on the bus, as text."""
        return self.call("--dest", "org.freedesktop.DBus", "--object-path", "/org/freedesktop/DBus", "--method",
                         "org.freedesktop.DBus.Debug.Stats.GetAllMatchRules")[1]

    def close(self):
        """End everything."""
        for process in self.processes:
            process.kill()
            process.communicate()
        self.kill()
        shutil.rmtree(self.folder)


def line_of(process):
    """Return the next line a program prints; empty at its end."""
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([process.stdout], [], [], PATIENCE_S)[0], "waited in vain for a line"
        character = os.read(process.stdout.fileno(), 1)     # past Python's buffer, which select does not see
        if not character:
            break
        line += character
    return line.decode().strip()


@pytest.fixture
def make_bus():
    if shutil.which("dbus-daemon") is None:
        pytest.skip("no dbus-daemon: apt-get install dbus")
    with contextlib.ExitStack() as stack:
        def make(**options):
            made = Bus(**options)
            stack.callback(made.close)
            return made
        yield make


@pytest.fixture
def bus(make_bus, monkeypatch):
    made = make_bus()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
    return made
