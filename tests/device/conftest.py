"""One virtual device for all the tests of this folder, booted at the first that needs it."""

import os
import sys
from collections.abc import Iterator

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from bench.lab import device as lab
from bench.lab import payload

SAID = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def asked_for() -> None:
    """Skip unless asked for: a boot takes some seconds, the first image half a minute and a download."""
    if os.environ.get("OOMGUARD_DEVICE") != "1":
        pytest.skip("boots a virtual device under QEMU: set OOMGUARD_DEVICE=1 (make test-all does)")


@pytest.fixture(scope="session")
def device(asked_for: None, pytestconfig: pytest.Config) -> Iterator[lab.Device]:
    """A booted device; what was said at its boot, panics with it, goes into the run's summary."""
    said = pytestconfig.stash.setdefault(SAID, [])
    with lab.boot(say=said.append) as running:
        yield running


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The wheel that OOMGUARD_WHEEL names, or one built from this tree."""
    return os.environ.get("OOMGUARD_WHEEL") or payload.build_wheel(str(tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Debian package that OOMGUARD_DEB names, or one built from this tree."""
    return os.environ.get("OOMGUARD_DEB") or payload.build_deb(str(tmp_path_factory.mktemp("deb")))


@pytest.fixture(scope="module")
def guarded_device(device: lab.Device, wheel: str) -> Iterator[lab.Device]:
    """The device with oomguard's wheel in it, as pip would have put it there; nothing is started."""
    payload.install(device, wheel)
    yield device
    payload.remove(device)


@pytest.fixture(scope="module")
def packaged(device: lab.Device, deb: str) -> Iterator[lab.Device]:
    """The device, fresh, with the Debian package installed by one command, and so guarded; purged at the end."""
    payload.install_deb(device, deb)
    yield device
    device.sh("dpkg --purge oomguard", timeout_s=payload.DEB_TIMEOUT_S)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show how the device came up, kernel panics and retries among it."""
    for line in config.stash.get(SAID, []):
        terminalreporter.write_line(line)
