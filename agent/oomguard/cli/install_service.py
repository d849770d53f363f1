"""`oomguard install --systemd`: units, users and settings of the service, from wherever the package is installed."""

from __future__ import annotations

import os
import subprocess

from oomguard.cli.install_drop_ins import ALLOWED, PLAIN_PATH, SYSTEM_UNITS, right_path
from oomguard.cli.install_site import Site
from oomguard.errors import NotPermittedError, UsageError

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "deploy")
PYTHON = "/usr/bin/python3"         # in the units as they are shipped
UNITS = ("oomguard.slice", "oomguard-hooks.socket", "oomguard-pressure.socket", "oomguard-hooks.service",
         "oomguard.service")
STARTED = UNITS[1:]
SYSUSERS, TMPFILES = "/etc/sysusers.d/oomguard.conf", "/etc/tmpfiles.d/oomguard.conf"
POLICY = "org.freedesktop.LowMemoryMonitor.conf"
OTHERS = {SYSUSERS: "sysusers.conf", TMPFILES: "tmpfiles.conf", f"/etc/dbus-1/system.d/{POLICY}": POLICY}
SETTINGS = {"/etc/oomguard/oomguard.yaml": "etc/oomguard.yaml", "/etc/oomguard/device.yaml": "etc/device.yaml",
            "/etc/oomguard/rules.d/README": "etc/README"}
PACKAGED = ("/usr/lib/systemd/system/oomguard.service", "/lib/systemd/system/oomguard.service")
UNSEEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108  by ProtectHome= and PrivateTmp=


def install(site: Site, python: str) -> None:
    """Write what is missing or has changed, make the users, and start the guard where systemd runs.

    Args: python: the interpreter that has this package, as the units shall call it.

    Raises:
        UsageError: the service could not see that interpreter, or the Debian package is there already.
        NotPermittedError: we are not root. CommandError: a program of systemd's failed.
    """
    if any(site.has(path) for path in PACKAGED):
        raise UsageError("the Debian package has installed the service already: systemctl enable --now oomguard")
    _refuse_unless_seen(site, python)
    before = site.changes
    for unit in UNITS:
        site.write(f"{SYSTEM_UNITS}/{unit}", shipped(unit).replace(PYTHON, python))
    for path, name in OTHERS.items():
        site.write(path, shipped(name))
    has_changed = site.changes > before
    for path, name in SETTINGS.items():
        site.give(path, shipped(name))
    at_root = () if site.root == "/" else (f"--root={site.root}",)
    # By name: systemd 252 looks for a path outside of the root.
    site.call("systemd-sysusers", *at_root, os.path.basename(SYSUSERS))
    site.call("systemd-tmpfiles", *at_root, "--create", os.path.basename(TMPFILES))
    site.call("systemctl", *at_root, "enable", *STARTED)
    if site.is_running:
        _start(site, has_changed)
    else:
        print("systemd does not run there: the guard starts with the next boot")


def uninstall(site: Site) -> None:
    """Stop the guard and remove what install wrote; settings that were changed, recordings and users stay."""
    if site.has(f"{SYSTEM_UNITS}/oomguard.service"):
        if site.is_running:
            site.call("systemctl", "disable", "--now", *reversed(STARTED))
            site.call("systemctl", "clean", "--what=runtime", "oomguard-hooks.service")     # kept over a stop
        else:
            site.call("systemctl", *(() if site.root == "/" else (f"--root={site.root}",)), "disable", *STARTED)
    for unit in UNITS:
        site.remove(f"{SYSTEM_UNITS}/{unit}")
    for word in (*ALLOWED, "user"):
        site.remove(right_path(word))
    for path in OTHERS:
        site.remove(path)
    for path, name in SETTINGS.items():
        site.take_back(path, shipped(name))
    for folder in ("/etc/oomguard/rules.d", "/etc/oomguard/keys", "/etc/oomguard"):
        site.remove_folder(folder)
    if site.is_running:
        site.call("systemctl", "daemon-reload")
    if site.has("/var/lib/oomguard"):
        print(f"kept {site.path('/var/lib/oomguard')}: its recordings are yours to remove, and so are the users"
              " oomguard and oomguard-hooks")


def shipped(name: str) -> str:
    """Return the text of a file that comes with the package."""
    with open(os.path.join(SOURCE, name), encoding="utf-8") as file:
        return file.read()


def _start(site: Site, has_changed: bool) -> None:
    if has_changed:
        site.call("systemctl", "daemon-reload")
        if os.path.exists("/run/dbus/system_bus_socket"):
            site.call("systemctl", "reload", "dbus")
        site.call("systemctl", "stop", "oomguard.service")      # sockets start only while their services do not run
        site.call("systemctl", "stop", "oomguard-hooks.service")
    site.call("systemctl", "start", *STARTED)


def _refuse_unless_seen(site: Site, python: str) -> None:
    if not python.startswith("/") or not PLAIN_PATH.fullmatch(python):
        raise UsageError(f"{python!r} is not an absolute path of plain characters")
    if site.root != "/":
        return
    if os.geteuid() and not site.is_dry_run:
        raise NotPermittedError("the service can be installed by root alone; see --dry-run for what would be done")
    where = "import os, oomguard; print(os.path.dirname(os.path.abspath(oomguard.__file__)))"
    found = subprocess.run([python, "-I", "-c", where], capture_output=True, text=True, cwd="/", check=False)
    if found.returncode:
        raise UsageError(f"{python} does not find oomguard by itself: install it there, as by {python} -m pip install")
    for path in (python, found.stdout.strip()):
        if path.startswith(tuple(f"{folder}/" for folder in UNSEEN)):
            raise UsageError(f"the service cannot see {path}: install oomguard elsewhere, such as in /opt/oomguard")
