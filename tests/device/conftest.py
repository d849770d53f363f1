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
def guarded_device(device: lab.Device, tmp_path_factory: pytest.TempPathFactory) -> lab.Device:
    """The device with oomguard in it: the wheel that OOMGUARD_WHEEL names, or one built from this tree."""
    wheel = os.environ.get("OOMGUARD_WHEEL") or payload.build_wheel(str(tmp_path_factory.mktemp("wheel")))
    payload.install(device, wheel)
    return device


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show how the device came up, kernel panics and retries among it."""
    for line in config.stash.get(SAID, []):
        terminalreporter.write_line(line)
