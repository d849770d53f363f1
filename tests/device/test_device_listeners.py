"""Who hears the service on a real device: libsystemd over kills and restarts of the guard, and GLib on the real bus."""

import json
import os
import time

import pytest
from bench.lab import device as lab

pytestmark = [pytest.mark.device, pytest.mark.timeout(900)]

HERE = os.path.dirname(os.path.abspath(__file__))
INSIDE = "/opt/inside"
# MemoryPressureWatch=on: systemd would set WATCH and WRITE for the unit's own file; the drop-in has the last word.
PLAYER = f"""[Service]
MemoryPressureWatch=on
ExecStart=/usr/bin/python3 {INSIDE}/counter.py /run/player.json
"""
SET_UP = f"""
cp {INSIDE}/tell.yaml /etc/oomguard/oomguard.yaml
printf %s "$1" > /etc/systemd/system/player.service
oomguard install --unit player
systemctl daemon-reload
systemctl restart oomguard
journalctl -u oomguard -n 1 -o cat --no-pager --cursor-file=/run/set-up > /dev/null
"""
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def served(packaged: lab.Device) -> lab.Device:
    """The device with the package, whose guard alarms for ever, and a player that listens."""
    packaged.put(os.path.join(HERE, "inside"), "/opt")
    packaged.put(os.path.join(HERE, "..", "bus", "glib_listener.py"), INSIDE)
    packaged.sh(SET_UP, PLAYER)
    return packaged


def counts(device: lab.Device, name: str = "player") -> dict[str, float]:
    said = device.sh('until [ -e "$1" ]; do sleep 0.1; done; cat "$1"', f"/run/{name}.json")
    found: dict[str, float] = json.loads(said)
    return found


def wait_for_callbacks(device: lab.Device, number: float) -> dict[str, float]:
    """Wait until the player has heard so many; return its counts."""
    give_up_s = time.monotonic() + PATIENCE_S
    while (found := counts(device))["callbacks"] < number:
        assert time.monotonic() < give_up_s, (found, device.sh("journalctl -u oomguard -o cat --no-pager | tail -n 20"))
        time.sleep(0.3)
    return found


def test_libsystemd_hears_the_service_over_kills_restarts_and_stops(served: lab.Device) -> None:
    """An unchanged sd_event program keeps its registration, and is woken by bytes alone: while the guard is killed
    outright, restarted, and stopped for three seconds.
    """
    served.sh("systemctl start player")
    before = wait_for_callbacks(served, 3)
    assert (before["watch"], before["write"]) == ("/run/oomguard-pressure.sock", None)
    lines = [f"started: {before}"]
    for change in ("systemctl kill -s KILL --kill-whom=main oomguard", "systemctl restart oomguard",
                   "systemctl stop oomguard; sleep 3; systemctl start oomguard"):
        heard = counts(served)
        served.sh(change)
        after = wait_for_callbacks(served, heard["callbacks"] + 3)
        lines.append(f"{change}: {after['wakeups'] - heard['wakeups']:.0f} wake-ups,"
                     f" {after['callbacks'] - heard['callbacks']:.0f} callbacks")
    end = counts(served)
    print("\n".join([*lines, f"ended: {end}"]))
    assert end["wakeups"] == end["callbacks"] < 60
    log = served.sh("journalctl -u oomguard -o cat --no-pager --cursor-file=/run/set-up")
    assert log.count("event=pressure-socket") == 3
    assert log.count("consumers=1 kept_by=\"the service manager\"") == 3
    assert log.count("event=consumer-came") == 1
    assert served.sh("systemctl show -P NFileDescriptorStore oomguard") == "1"


def test_an_app_that_ends_is_let_go(served: lab.Device) -> None:
    """When the player stops, guard and service manager forget its connection."""
    served.sh("systemctl stop player")
    served.sh("until journalctl -u oomguard -o cat | grep -q event=consumer-gone; do sleep 0.2; done")
    served.sh('until [ "$(systemctl show -P NFileDescriptorStore oomguard)" = 0 ]; do sleep 0.2; done')


def test_without_the_store_it_melts(served: lab.Device) -> None:
    """The same program at a socket that dies with its guard makes thousands of callbacks a second."""
    served.sh("""
        systemd-run -q --unit=bare -p Type=notify -p RuntimeDirectory=bare env RUNTIME_DIRECTORY=/run/bare \\
            oomguard run /etc/oomguard --journal none
        until [ -S /run/bare/pressure.sock ]; do sleep 0.1; done
        systemd-run -q --unit=melting -p MemoryPressureWatch=skip -E MEMORY_PRESSURE_WATCH=/run/bare/pressure.sock \\
            python3 /opt/inside/counter.py /run/melting.json
    """)
    counts(served, "melting")
    served.sh("until journalctl -u bare -o cat | grep -q event=consumer-came; do sleep 0.2; done")
    served.sh("systemctl kill -s KILL bare; sleep 2")
    melted = counts(served, "melting")
    served.sh("systemctl stop melting; systemctl reset-failed bare || true")
    print(melted)
    assert melted["callbacks"] > 1000


def test_glib_hears_the_service_on_the_real_bus(served: lab.Device) -> None:
    """GMemoryMonitor of an ordinary user's program is warned over the system bus of a real device."""
    served.sh("systemd-run -q --unit=glib -p User=nobody python3 /opt/inside/glib_listener.py")
    served.sh("until journalctl -u glib -o cat | grep -q 'warned 255'; do sleep 0.3; done", timeout_s=PATIENCE_S)
    assert "monitor GMemoryMonitorDBus" in served.sh("journalctl -u glib -o cat")
    owner = "org.freedesktop.LowMemoryMonitor"
    assert owner in served.sh("busctl --system list --no-legend")
    served.sh("systemctl stop glib")
