"""The lab's catalogue, a YAML file: device types, programs, and how many runs of each kind."""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec
import yaml

from oomguard.errors import ConfigError
from oomguard.learn.lab.program import driver_of

MIB = 1 << 20
MOST_BYTES = 64 * 1024
Count = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class DeviceType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A class of devices: how much memory an app may have there, and what swap there is."""

    name: str
    limit_mib: tuple[int, int]
    share: Annotated[float, msgspec.Meta(gt=0, le=1)]       # of the runs
    swap: Annotated[str, msgspec.Meta(pattern="^(none|file|zram)$")] = "none"
    longest_s: Annotated[float, msgspec.Meta(ge=60)] = 86400.0     # runs with swap wait for each other

    @property
    def least_bytes(self) -> int:
        """The smallest limit."""
        return self.limit_mib[0] * MIB

    @property
    def most_bytes(self) -> int:
        """The largest limit."""
        return self.limit_mib[1] * MIB


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program, and how often it runs leaking, leaking into a bound of its own, and quiet."""

    program: str
    leaks: Count
    bounded: Count
    quiet: Count
    least_limit_mib: Annotated[int, msgspec.Meta(ge=16, le=8192)] = 64
    longest_s: Annotated[float, msgspec.Meta(ge=60)] = 86400.0
    neighbour_share: Share = 0.06
    churn_per_s: Share = 0.0        # garbage a second over the limit, at most

    @property
    def least_limit_bytes(self) -> int:
        """The smallest limit in which it starts at all."""
        return self.least_limit_mib * MIB


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    seed: int
    planned_s: tuple[float, float]      # how long a run is planned to last, drawn log-uniformly
    device_types: list[DeviceType]
    programs: list[Entry]
    tag: Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{0,16}$")] = ""     # in run ids: two catalogues, one set
    still_share: Share = 0.0            # of the quiet runs, those that stand still whatever else a shape would do


def read_catalogue(path: str) -> Catalogue:
    """Read and check a catalogue.

    Raises:
        ConfigError: the file cannot be read, or says what it may not; with the place in it.
        UsageError: a program that learn/lab/programs does not have.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"{path}: larger than {MOST_BYTES} bytes")
    try:
        catalogue = msgspec.convert(yaml.safe_load(raw), Catalogue)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from None
    for device in catalogue.device_types:
        if not 0 < device.limit_mib[0] <= device.limit_mib[1]:
            raise ConfigError(f"{path}: device type {device.name}: limit_mib is [least, most], both above 0")
    largest = max((device.limit_mib[1] for device in catalogue.device_types), default=0)
    for entry in catalogue.programs:
        driver_of(entry.program)
        if entry.least_limit_mib * 1.2 > largest:
            raise ConfigError(f"{path}: {entry.program} fits no device type")
    if not 0 < catalogue.planned_s[0] < catalogue.planned_s[1]:
        raise ConfigError(f"{path}: planned_s is [least, most], both above 0")
    return catalogue


def digest_of(path: str) -> str:
    """Return the sha256 of the file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
