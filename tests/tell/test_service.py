"""sd_notify: what a real datagram socket hears."""

import os
import socket

import pytest

from oomguard.tell.service import ServiceManager


@pytest.fixture
def manager(tmp_path):
    """A service manager's socket and the environment it gives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening, {"NOTIFY_SOCKET": str(tmp_path / "notify")}


def heard(listening):
    try:
        return listening.recv(4096).decode()
    except BlockingIOError:
        return None


def test_the_life_of_a_service_is_told(manager):
    """Ready, status, reloading, stopping arrive as the words systemd knows."""
    listening, environ = manager
    service = ServiceManager(environ)
    assert service.is_present
    assert service.ready("guarding 2 targets")
    assert heard(listening) == "READY=1\nSTATUS=guarding 2 targets"
    assert service.status("level 3")
    assert heard(listening) == "STATUS=level 3"
    assert service.reloading()
    word, stamp = heard(listening).split("\n")
    assert word == "RELOADING=1"
    assert stamp.removeprefix("MONOTONIC_USEC=").isdigit()
    assert service.stopping()
    assert heard(listening) == "STOPPING=1"
    service.close()


def test_an_abstract_socket_is_reached():
    """`@name` is a socket without a file."""
    name = f"oomguard-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        service = ServiceManager({"NOTIFY_SOCKET": "@" + name})
        assert service.ready()
        assert heard(listening) == "READY=1"
        service.close()


@pytest.mark.parametrize("value", ["", "relative", "vsock:2:1234", "@"])
def test_without_a_service_manager_nothing_happens(value):
    """No address, or one that is not for us, is silence and no error."""
    service = ServiceManager({"NOTIFY_SOCKET": value})
    assert not service.ready()
    assert not service.watchdog(1.0)
    service.close()


def test_a_manager_that_left_raises_nothing(manager, tmp_path):
    """A socket that nobody listens at any more is a False."""
    _listening, environ = manager
    (tmp_path / "notify").unlink()
    service = ServiceManager(environ)
    assert not service.ready()
    service.close()
    assert not service.ready()


def test_a_manager_that_does_not_read_does_not_block(manager):
    """A full queue loses the message."""
    _listening, environ = manager
    service = ServiceManager(environ)
    assert [service.status("x" * 400) for _turn in range(5000)].count(False) > 0
    service.close()


def test_a_status_text_cannot_pass_for_another_message(manager):
    """Newlines in a text, which may hold a target's name, are spaces."""
    listening, environ = manager
    service = ServiceManager(environ)
    service.status("app\nSTOPPING=1")
    assert heard(listening) == "STATUS=app STOPPING=1"
    service.close()


def test_the_watchdog_is_fed_three_times_per_allowed_silence(manager):
    """Called every tick, it sends when a third of WATCHDOG_USEC has passed."""
    listening, environ = manager
    service = ServiceManager(environ | {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())})
    assert service.watchdog_s == 30.0
    assert [service.watchdog(float(t_s)) for t_s in range(100, 121)].count(True) == 3
    assert heard(listening) == "WATCHDOG=1"
    service.close()


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "-5"},
                                      {"WATCHDOG_USEC": "\u0663"},
                                      {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}])
def test_no_watchdog_is_fed_that_is_not_ours(manager, watchdog):
    """Unset, odd, or for another process: silence."""
    listening, environ = manager
    service = ServiceManager(environ | watchdog)
    assert service.watchdog_s == 0.0
    assert not service.watchdog(1.0)
    assert heard(listening) is None
    service.close()
