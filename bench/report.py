"""Print a result of `make bench` as a markdown table: `python bench/report.py [bench/results/FILE.json]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HEADING = "{cpu}, {cores} cores, Linux {kernel}, Python {python}, model {model}, {measured}"
RESULTS = Path(__file__).parent / "results"


def table(result: dict) -> str:
    """Return the figures with their budgets."""
    machine = result["machine"]
    lines = [HEADING.format(**machine, measured=result["measured"]), "",
             "| what | measured | budget | |", "|---|---:|---:|---|"]
    for name, figure in result["figures"].items():
        budget = f"≤ {figure['at_most']:g}" if figure["at_most"] is not None else \
            f"≥ {figure['at_least']:g}" if figure["at_least"] is not None else ""
        verdict = {True: "", False: "**over**", None: ""}[figure["is_kept"]]
        note = "; ".join(part for part in (verdict, figure["how"]) if part)
        lines.append(f"| {name} | {figure['value']:.4g} {figure['unit']} | {budget} | {note} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Print one result: the one named, else the newest."""
    paths = [Path(argv[1])] if len(argv) > 1 else sorted(RESULTS.glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        sys.stderr.write("nothing measured yet: run `make bench`\n")
        return 1
    print(table(json.loads(paths[-1].read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
