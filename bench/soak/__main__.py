"""Guard for an hour at ten readings a second while faults are injected at random; say what was lost and what grew.

    python -m bench.soak [--duration 1h] [--hz 10] [--seed 1] [--out out/soak.json]
    python -m bench.soak --ticks 1000000          # without waiting: a clock that ticks as fast as the guard

The last third has no fault that ends the guard, so that growth would show. Exits with 1 where something was lost or
grew. Needs root: it makes a cgroup and mounts a tmpfs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.soak.driven import drive
from bench.soak.faults import Faults
from bench.soak.ledger import RSS_GROWTH_MOST_BYTES, Ledger
from bench.soak.site import REPO, Site

from oomguard.units import parse_seconds

GENTLE_PART = 2 / 3         # of the time, after which the guard is not killed any more


def main() -> int:
    """Run what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", default="1h")
    parser.add_argument("--hz", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default="out/soak.json")
    parser.add_argument("--ticks", type=int, default=0, help="drive so many ticks without waiting instead")
    args = parser.parse_args()
    said = drive(args.ticks) if args.ticks else soak(parse_seconds(args.duration), args.hz, args.seed)
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps(before | {"ticks" if args.ticks else "soak": said}, indent=1) + "\n")
    print(json.dumps(said, indent=1))
    return int(not said["is_kept"])


def soak(duration_s: float, hz: float, seed: int) -> dict[str, object]:
    """Guard under faults for so long; return the account."""
    sys.path.insert(0, str(REPO))
    from tests.faults.broken import Broken

    chance, begin_s = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="og-soak-shim-") as scratch:
        broken = Broken(Path(scratch))
        site = Site(hz, seed, broken.environ)
        try:
            site.ticks_on()
            faults, ledger = Faults(site, broken, chance), Ledger(site)
            while (spent_s := time.monotonic() - begin_s) < duration_s:
                name = faults.one(may_kill=spent_s < duration_s * GENTLE_PART)
                if site.guard.poll() is not None:
                    raise RuntimeError(f"the guard ended by itself at {name!r}: {(site.folder / 'errors').read_text()}")
                ledger.weigh()
                print(f"\r{spent_s:6.0f} s  {sum(faults.counts.values())} faults, {site.samples()} samples  {name:30}",
                      end="", file=sys.stderr, flush=True)
            site.ticks_on()
            settled = ledger.growth()
            status = site.close()
            balance = ledger.balance(site.samples(), faults.kills)
        except (TimeoutError, RuntimeError):
            print("", *site.log.read_text().splitlines()[-30:], (site.folder / "errors").read_text(), sep="\n",
                  file=sys.stderr)
            raise
        finally:
            site.remove()
            broken.close()
    print(file=sys.stderr)
    early, late = settled[0], settled[-1]
    grew = late.rss_bytes - early.rss_bytes
    return {
        "duration_s": round(time.monotonic() - begin_s), "hz": hz, "seed": seed,
        "faults": dict(sorted(faults.counts.items())), "balance": balance._asdict(), "exit_status": status,
        "restart_s": {"p50": round(statistics.median(faults.outages_s), 3), "max": round(max(faults.outages_s), 3),
                      "bare_python_p50": round(statistics.median(faults.bare_s), 3)} if faults.outages_s else None,
        "longest_life": {"early": early._asdict(), "late": late._asdict(),
                         "rss_kib_by_age_s": {round(each.age_s): each.rss_bytes >> 10 for each in settled}},
        "is_kept": balance.is_kept and status == 0 and grew <= RSS_GROWTH_MOST_BYTES and late.fds <= early.fds + 2}


if __name__ == "__main__":
    sys.exit(main())
