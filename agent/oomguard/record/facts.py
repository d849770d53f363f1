"""What is known of a run when it begins: a row of `runs`, and the device profile that `devices` is made of."""

from __future__ import annotations

from binascii import crc32

from oomguard._version import __version__
from oomguard.lean_json import encoder
from oomguard.profile import Profile
from oomguard.typed import NamedTuple

MACHINE_ID = "/etc/machine-id"
_encode = encoder(ensure_ascii=False)
_TEXT_MAX_CHARS = 200           # a dozen of these, escaped, fit into layout.PAYLOAD_MAX_BYTES


class RunFacts(NamedTuple):
    """The facts of one run. Unknown words are empty."""

    run_id: str
    boot_id: str = ""
    device_id: str = ""
    app: str = ""                   # the target's name
    app_version: str = ""
    target: str = ""                # what was found under that name, for people: `cgroup /app`, `pid 812`
    start_s: float = 0.0            # CLOCK_BOOTTIME at which t_s is 0
    cadence_s: float = 1.0
    profile: Profile = Profile()
    bundle_digest: str = ""
    rules_digest: str = ""
    scorer: str = ""                # `forest`, `plain`; empty where nobody scored
    agent_version: str = __version__

    def pack(self) -> bytes:
        """Return the facts as JSON; unknown numbers are null."""
        shown = {name: _plain(value) for name, value in zip(self._fields, self, strict=True) if name != "profile"}
        shown["profile"] = {name: _plain(value) for name, value in zip(Profile._fields, self.profile, strict=True)}
        return _encode(shown).encode("utf-8", "replace")


def run_facts(
    name: str, identity: str, start_s: float, profile: Profile, *, target: str = "", cadence_s: float = 1.0,
    bundle_digest: str = "", rules_digest: str = "", scorer: str = "", app_version: str = "",
) -> RunFacts:
    """Return the facts of a run; the same target at the same start is the same run, whoever asks.

    Args:
        name: of the target, in rules and log.
        identity: the sensor's: boot, then process and its start, or cgroup and its inode.
        start_s: CLOCK_BOOTTIME at which the window began.
        profile: of device and app.
        target: what was found, for people.
        cadence_s: between two samples.
        bundle_digest: of the model, empty where there is none.
        rules_digest: of the rule file, empty where there is none.
        scorer: who scores: `forest`, `plain`, or nobody.
        app_version: where somebody knows it.
    """
    device = device_id()
    return RunFacts(run_id_of(name, identity, start_s, device), identity.partition(":")[0], device, name,
                    app_version, target, start_s, cadence_s, profile, bundle_digest, rules_digest, scorer)


def run_id_of(name: str, identity: str, start_s: float, device: str) -> str:
    """Return a name for the run that nobody else gives: machine and identity, start in microseconds, target.

    Not a digest: hashlib would bring OpenSSL's memory to the device, and the target's name helps people.
    """
    told = f"{device}|{identity}".encode("utf-8", "replace")
    return f"{crc32(told):08x}-{round(start_s * 1e6):x}-{name[:64]}"


def device_id(path: str = MACHINE_ID) -> str:
    """Return 16 hex digits that name the machine, empty where it has no id.

    64 of the 128 bits of /etc/machine-id are gone for good: machine-id(5) asks not to publish it.
    """
    try:
        with open(path, "rb") as file:
            told = b"oomguard" + file.read(64).strip()
    except OSError:
        return ""
    return f"{crc32(told):08x}{crc32(told[::-1]):08x}"


def _plain(value: object) -> object:
    if isinstance(value, str):
        return value[:_TEXT_MAX_CHARS]
    return None if value != value else value
