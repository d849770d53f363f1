"""org.freedesktop.LowMemoryMonitor on a real bus, heard by real GLib (PROTOCOLS 2)."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from bus.conftest import PATIENCE_S, REPO, line_of, until
from oomguard.clock import now_s
from oomguard.tell.monitor import link as link_module
from oomguard.tell.monitor.bus import introspection
from oomguard.tell.monitor.link import MonitorLink, bus_problem
from oomguard.tell.monitor.producer import warning_of

NAME, PATH = "org.freedesktop.LowMemoryMonitor", "/org/freedesktop/LowMemoryMonitor"
HERE = ("--dest", NAME, "--object-path", PATH)


class Link:
    """A MonitorLink in an epoll of its own, and what it said."""

    def __init__(self):
        self.said, self.changes = [], 0
        self.poller = select.epoll()
        self.link = MonitorLink(self.poller, self._tell, self._change)
        self.link.start(now_s())

    def _tell(self, event, severity="info", /, **fields):
        self.said.append((event, fields))

    def _change(self):
        self.changes += 1

    def wait(self):
        """Wait for the process' next word."""
        assert self.poller.poll(PATIENCE_S), "waited in vain for the process"
        self.link.handle(now_s())
        return self.link.is_on, self.link.because

    def close(self):
        """End the process."""
        pid = self.link.pid
        self.link.close()
        if pid > 0:
            with contextlib.suppress(ChildProcessError):    # reaped by the link
                os.waitpid(pid, 0)
        self.poller.close()


@pytest.fixture
def start():
    made = []

    def make():
        made.append(Link())
        return made[-1]

    yield make
    for each in made:
        each.close()


# The mapping


@pytest.mark.parametrize(("level", "warning"), [
    (-1, 0), (0, 0), (1, 50), (2, 50), (3, 100), (4, 100), (5, 255), (6, 255)])
def test_levels_come_to_warnings(level, warning):
    """1 and 2 are low, 3 and 4 medium, 5 is critical; there is no all-clear."""
    assert warning_of(level) == warning


def test_the_object_describes_itself():
    """The XML is well-formed, and the way to the object can be walked from the root."""
    ours = ElementTree.fromstring(introspection(PATH))
    monitor = next(each for each in ours if each.get("name") == NAME)
    (warning,) = monitor
    assert (warning.tag, warning.get("name"), [arg.get("type") for arg in warning]) == (
        "signal", "LowMemoryWarning", ["y"])
    path = "/"
    while path != PATH:
        (child,) = ElementTree.fromstring(introspection(path))
        path = path.rstrip("/") + "/" + child.get("name")
    assert len(ElementTree.fromstring(introspection("/elsewhere"))) == 0


# Real GLib


def test_glib_hears_three_of_three(bus, start):
    """GMemoryMonitor of a program that is not ours gets 50, 100 and 255, once each."""
    made = start()
    assert made.wait() == (True, "")
    app = bus.glib()
    for level, said in ((1, "warned 50"), (3, "warned 100"), (5, "warned 255")):
        assert made.link.tell(level)
        assert line_of(app) == said
    assert made.said == [("low-memory-monitor", {"on": True, "because": None})]


def test_the_same_level_is_held_off(bus, start):
    """Within 15 s a warning is sent once, and none below it; a higher one at once."""
    made = start()
    made.wait()
    app = bus.glib()
    for level in (2, 1, 2, 0, 3, 4, 1, 5):
        assert made.link.tell(level)
    assert [line_of(app) for _ in range(3)] == ["warned 50", "warned 100", "warned 255"]
    made.link.close()                       # the process has done all it was told before it ends
    os.waitpid(made.link.pid, 0)
    app.terminate()
    assert app.communicate()[0] == ""


def test_an_app_that_starts_first_hears_too(bus, start):
    """GLib 2.74 waits for the name, and listens once it is there."""
    app = bus.glib(is_first=True)
    made = start()
    made.wait()
    bus.listening(app)
    made.link.tell(5)
    assert line_of(app) == "warned 255"


# What consumers ask


def test_questions_are_answered(bus, start):
    """GetAll is empty, Get an error, Ping an answer, and Introspect names the signal, as gdbus sees it."""
    start().wait()
    properties = "org.freedesktop.DBus.Properties"
    assert bus.call(*HERE, "--method", f"{properties}.GetAll", NAME) == (0, "(@a{sv} {},)\n")
    assert "UnknownProperty" in bus.call(*HERE, "--method", f"{properties}.Get", NAME, "Level")[1]
    assert bus.call(*HERE, "--method", "org.freedesktop.DBus.Peer.Ping") == (0, "()\n")
    shown = subprocess.run(["gdbus", "introspect", "--system", *HERE], env=bus.environ, capture_output=True, text=True,
                           check=True)
    assert "LowMemoryWarning(y level);" in shown.stdout


def test_what_the_policy_does_not_name_is_not_heard(bus, start):
    """A method call to the monitor's own interface does not pass the bus."""
    start().wait()
    code, said = bus.call(*HERE, "--method", f"{NAME}.Reboot")
    assert code != 0
    assert "AccessDenied" in said


def test_others_may_not_have_the_name(bus, start):
    """An ordinary user can neither own the name nor pass for us."""
    if os.geteuid() != 0:
        pytest.skip("needs root to be somebody else")
    with contextlib.ExitStack() as stack:
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        program = (f"import sys; sys.path.append({REPO + '/agent'!r})\n"
                   "import jeepney.io.blocking, oomguard.tell.monitor.bus, oomguard.tell.monitor.producer as p, os\n"
                   f"os.setuid(65534); sys.exit(p.main(['', '{theirs.fileno()}']))")
        process = bus.run(sys.executable, "-I", "-c", program, pass_fds=[theirs.fileno()])
        theirs.close()
        ours.settimeout(PATIENCE_S)
        said = ours.recv(1000).decode()
        assert "the bus does not let us have org.freedesktop.LowMemoryMonitor" in said, process.communicate()[1]


# Where there is none


def test_without_our_policy_file_it_says_so(make_bus, start, monkeypatch):
    """A bus that does not let us have the name: one line that names the file, and no second try."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", make_bus(has_policy=False).address)
    made = start()
    is_on, because = made.wait()
    assert not is_on
    assert "policy file" in because
    assert made.poller.poll(PATIENCE_S)
    made.link.handle(now_s())               # the end of the process
    until(lambda: made.link.tend(now_s() + 1000, True) or made.link.pid < 0, "its end")
    assert made.link.fd < 0
    assert len(made.said) == 1
    assert not made.link.tell(5)


def test_the_name_of_another_is_left_to_it(bus, start):
    """A second producer stays off and says who may have the name; the first is not disturbed."""
    first, second = start(), start()
    results = [first.wait(), second.wait()]
    assert sorted(is_on for is_on, _because in results) == [False, True]
    assert "another program has org.freedesktop.LowMemoryMonitor" in max(because for _on, because in results)


def test_no_bus_is_one_line_and_no_process(start, monkeypatch, tmp_path):
    """Where the bus' socket is not there nothing is started; an address nobody answers at costs one try."""
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS", raising=False)
    monkeypatch.setattr(link_module, "SYSTEM_BUS", str(tmp_path / "no-bus"))
    assert "no system bus" in bus_problem(os.environ)
    made = start()
    assert (made.link.fd, made.link.pid) == (-1, -1)
    made.link.tend(now_s() + 1000, True)
    assert (made.link.pid, len(made.said)) == (-1, 1)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    is_on, because = start().wait()
    assert not is_on
    assert "FileNotFoundError" in because


def test_without_jeepney_it_says_what_to_install(bus, start, monkeypatch):
    """The extra is missing: the line says how to have it."""
    monkeypatch.setattr(link_module, "_BOOT", "import sys; sys.modules['jeepney'] = None; " + link_module._BOOT)
    made = start()
    is_on, because = made.wait()
    assert not is_on
    assert "oomguard[dbus]" in because


# Deaths


def test_a_killed_process_is_started_again_when_quiet(bus, start):
    """Killed outright, it is down, said once; it comes back after the back-off, not under pressure."""
    made = start()
    made.wait()
    pid = made.link.pid
    os.kill(pid, signal.SIGKILL)
    assert made.wait() == (False, "its process is gone")
    until(lambda: made.link.tend(now_s(), False) or made.link.pid < 0, "its end")
    made.link.tend(now_s() + 100, False)
    assert made.link.pid < 0
    made.link.tend(now_s() + 100, True)
    assert made.wait() == (True, "")
    assert made.link.pid not in (pid, -1)
    assert made.changes == 3


def test_a_bus_that_is_started_again_is_found_again(bus, start):
    """The bus dies: off, with a reason; it comes back: on, in the same process, and heard."""
    made = start()
    made.wait()
    pid = made.link.pid
    bus.kill()
    is_on, because = made.wait()
    assert not is_on
    assert "the bus has gone" in because
    assert not made.link.tell(5)
    bus.start()
    while not made.wait()[0]:
        pass
    assert made.link.pid == pid
    app = bus.glib()
    made.link.tell(5)
    assert line_of(app) == "warned 255"


def test_it_ends_with_the_guard(bus, start):
    """When the guard's end closes the process ends by itself, and the name is free."""
    made = start()
    made.wait()
    made.link.close()
    assert os.waitpid(made.link.pid, 0)[1] == 0
    said = bus.call("--dest", "org.freedesktop.DBus", "--object-path", "/", "--method",
                    "org.freedesktop.DBus.NameHasOwner", NAME)
    assert said == (0, "(false,)\n")


# The whole guard


RULES = """version: 1
targets: [system]
model: none
plain_levels: [99.99%, 99.98%, 99.97%, 99.96%, 99.95%]
bounds: {actions_per_minute: 60, minimum_gap: 0s}
rules:
  - name: tell
    when: {level_at_least: 1}
    then: [{hook: any, release: all}]
    cooldown: 100ms
"""


@pytest.mark.parametrize("is_dry", [False, True])
def test_an_alarm_of_the_guard_reaches_glib(bus, tmp_path, is_dry):
    """`oomguard run` owns the name, and its rule's `hook: any` is a critical warning; a dry run owns nothing."""
    (tmp_path / "rules.yaml").write_text(RULES)
    log = tmp_path / "log"
    places = ("--runtime-dir", str(tmp_path / "run"), "--log", str(log), "--journal", str(tmp_path / "journal"))
    bus.environ["PYTHONPATH"] = os.path.join(REPO, "agent")
    app = bus.glib(is_first=True)
    guard = bus.run(sys.executable, "-m", "oomguard", "run", str(tmp_path / "rules.yaml"), *places,
                    *(["--dry-run"] if is_dry else []))
    if is_dry:
        until(lambda: log.exists() and "event=decision" in log.read_text(), "a decision", log.read_text)
        assert "event=low-memory-monitor" not in log.read_text()
    else:
        assert line_of(app) == "warned 255"     # the second one where GLib was not through with the first: 15 s
    guard.terminate()
    assert guard.wait(PATIENCE_S) == 0
