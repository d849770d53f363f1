"""What the daemon is told before it starts: a checked plan, a checked model, options; in a sealed memory file.

Rules and signatures are read and checked by a short-lived process, which then becomes the daemon (exec): so YAML,
argparse and OpenSSL never count in the daemon's memory, and what it maps is exactly what was checked.
"""

from __future__ import annotations

import fcntl
import os
import sys
from math import inf

from oomguard.decide.plan import Plan
from oomguard.decide.plan_json import from_json, to_json
from oomguard.errors import BundleError, ConfigError
from oomguard.forest import Forest, Knots
from oomguard.lean_json import decoder, encoder
from oomguard.scorer import Model
from oomguard.typed import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from oomguard.net import Net
    from oomguard.trust.bundle import Bundle

_LINE_MAX_BYTES = 1 << 20
_BOOT = "import sys; sys.path.append(sys.argv.pop()); from oomguard.daemon import main; sys.exit(main(sys.argv))"
_encode, _decode = encoder(), decoder()
BRIEFING_MAX_BYTES = 24 << 20           # a forest of 16 MiB and what is said about it


class Options(NamedTuple):
    """How the daemon runs, beside what it guards."""

    runtime_dir: str                        # windows, control socket, FIFOs
    socket: str = ""                        # the control socket; empty: none
    is_json_log: bool = False
    log_file: str = ""                      # empty: standard error
    argv: tuple[str, ...] = ()              # `exec`: the program to start and guard
    limit_bytes: int = 0                    # `exec`: the limit of the program's own cgroup, 0: none
    model_problem: str = ""                 # why there is no model although one was asked for
    is_portable: bool = False               # read by psutil
    ticks: int = 0                          # stop after so many; 0: never
    journal_dir: str = ""                   # where samples, actions and kills are recorded; empty: nowhere
    started_as: tuple[str, ...] = ()        # `run`'s own words, for `reload` to read the same files again
    started_in: str = ""                    # the folder they are relative to
    metrics_file: str = ""                  # a textfile for a collector; empty: none
    metrics_http: str = ""                  # loopback address and port for scrapers; empty: none
    helper_address: str = ""                # the socket of a helper that is a unit of its own; empty: start one
    socket_gid: int = -1                    # members of this group may use the control socket; -1: nobody else


class Briefing(NamedTuple):
    """Everything the daemon knows at its start."""

    plan: Plan
    model: Model | None
    options: Options


def write_briefing(plan: Plan, bundle: Bundle | None, options: Options) -> bytes:
    """Return the briefing: the plan, the options and the model's facts as a line of JSON each, then the forest."""
    facts = _encode([options, _plain_model(bundle, plan)]).encode()
    return b"\n".join((to_json(plan), facts, b"" if bundle is None else bundle.forest or bundle.onnx))


def become_daemon(plan: Plan, bundle: Bundle | None, options: Options) -> NoReturn:
    """Replace this process by the daemon; does not return."""
    fd = os.memfd_create("oomguard-briefing", os.MFD_ALLOW_SEALING)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(write_briefing(plan, bundle, options))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    os.set_inheritable(fd, True)
    # Without site, and without column tables for tracebacks: 0.6 MB less (bench/test_footprint). psutil needs site.
    site = [] if options.is_portable else ["-S"]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.execv(sys.executable, [sys.executable, "-I", *site, "-X", "no_debug_ranges", "-c", _BOOT, str(fd), root])  # noqa: S606


def read_briefing(fd: int) -> Briefing:
    """Return what the parent wrote. Raises ConfigError or BundleError when it is not a briefing of this version."""
    os.lseek(fd, 0, os.SEEK_SET)        # the writer shares our offset
    with os.fdopen(fd, "rb") as file:
        plan_line, facts_line, forest = file.readline(_LINE_MAX_BYTES), file.readline(_LINE_MAX_BYTES), file.read()
    plan = from_json(plan_line.strip())
    try:
        fields, model = _decode(facts_line.decode())
        options = Options(*fields)
        options = options._replace(argv=tuple(options.argv), started_as=tuple(options.started_as))
    except (ValueError, TypeError) as problem:
        raise ConfigError(f"not a briefing of this version: {problem}") from None
    return Briefing(plan, None if model is None else _model(model, forest), options)


def _plain_model(bundle: Bundle | None, plan: Plan) -> dict[str, object] | None:
    if bundle is None:
        return None
    thresholds = bundle.thresholds_for(plan.profile.device_type)
    return {"model_id": bundle.model_id, "digest": bundle.digest, "phases": bundle.phases,
            "is_net": bool(bundle.onnx),
            "thresholds": [thresholds.p300, thresholds.p240, thresholds.p180, thresholds.p120, thresholds.p60],
            "critical_ratio": thresholds.critical_ratio, "calibration": bundle.calibration,
            "low": [None if low == -inf else low for low in bundle.low],
            "high": [None if high == inf else high for high in bundle.high]}


def _runnable(data: bytes, low: list[float], high: list[float], calibration: tuple[Knots, ...],
              is_net: bool) -> Forest | Net:
    if not is_net:
        return Forest(data, low, high, calibration)
    from oomguard.net import Net  # only where the model is no forest

    return Net(data, low, high, calibration)


def _model(facts: dict[str, Any], data: bytes) -> Model:
    try:
        low = [-inf if x is None else float(x) for x in facts["low"]]
        high = [inf if x is None else float(x) for x in facts["high"]]
        calibration = tuple(tuple((float(x), float(y)) for x, y in curve) for curve in facts["calibration"])
        forest = _runnable(data, low, high, calibration, facts["is_net"])
        return Model(facts["model_id"], facts["digest"], forest, tuple(facts["thresholds"]), facts["critical_ratio"],
                     facts["phases"])
    except (KeyError, TypeError, ValueError) as problem:
        raise BundleError(f"the model in the briefing: {problem}") from None
