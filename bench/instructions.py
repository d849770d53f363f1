"""How many instructions the kernel takes: the same figure on a busy machine as on a quiet one, so CI can gate on it.

    python bench/instructions.py              count, compare with bench/instructions.json; exit 1 where it is over
    python bench/instructions.py --update     write bench/instructions.json anew
    python bench/instructions.py --default    the shipped model instead of the made one; nothing is compared
    python bench/instructions.py --aarch64    the made one on an emulated aarch64 (pip install ziglang; apt-get install
                                              qemu-user-static): counts, and whether the bits are the same

The gate counts a made forest over made windows, both seeded, so that a new model does not move it. Needs valgrind.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import struct
import subprocess
import sys
import sysconfig
import tempfile
from array import array
from pathlib import Path
from random import Random

from oomguard import features, forest
from oomguard.measure import inputs
from oomguard.trust.bundle import load_shipped

HERE = Path(__file__).parent
KERNEL = HERE.parent / "agent" / "oomguard" / "_kernel.c"
BASELINE = HERE / "instructions.json"
MARGIN_RATIO = 0.05             # of the same compiler; a compiler's own choices move counts by some percent
OTHER_MARGIN_RATIO = 0.25       # of another one than the baseline's
WINDOWS, TIMES = 64, 512
STAGES = ("score", "features", "walk", "push")
# As in setup.py, so that what is counted is the same code; nothing of Python's is linked or called.
FLAGS = ["-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-DPy_LIMITED_API=0x030B0000",
         "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
# A small device's caches, so that misses do not depend on this machine's.
CACHES = ["--cache-sim=yes", "--branch-sim=yes", "--I1=32768,4,64", "--D1=32768,4,64", "--LL=524288,16,64"]
QEMU, AARCH64 = "qemu-aarch64-static", ("-target", "aarch64-linux-musl", "-static")
EVENTS = ("Ir", "Dr", "Dw", "I1mr", "D1mr", "D1mw", "ILmr", "DLmr", "DLmw", "Bc", "Bcm", "Bi", "Bim")


# -- what is counted -------------------------------------------------------------------------------------------------

def write_input(path: Path, data: bytes, calibration=((),) * 5, windows=None) -> None:
    """Write what bench/count.c reads: a forest whose ranges are open, windows with facts, samples to push."""
    windows = inputs.windows(WINDOWS) if windows is None else windows
    facts = inputs.facts()
    samples = list(inputs.random_run(Random(inputs.SEED), TIMES, cadence_s=1.0))
    with path.open("wb") as file:
        file.write(struct.pack("=QQQ", len(windows), len(samples), len(data)))
        file.write(data)
        for bound in (-inputs.math.inf, inputs.math.inf):
            file.write(array("f", [bound] * features.COUNT).tobytes())
        file.write(forest._knot_table(calibration).tobytes())
        for i, window in enumerate(windows):
            file.write(bytes(window.buffer) + facts[i % len(facts)].tobytes().ljust(64, b"\0"))
        for sample in samples:
            values = [value for name, value in sample._asdict().items() if name not in ("constraint", "phase")]
            file.write(struct.pack("=18d", *values, 1.0, float("nan")))


def made(path: Path) -> None:
    """Write the gate's input: it depends on no model and no recording."""
    write_input(path, inputs.made_forest())


def shipped(path: Path, windows=None) -> None:
    """Write the shipped model's input."""
    bundle = load_shipped()
    write_input(path, bundle.forest, bundle.calibration, windows)


def build(folder: Path, kernel: Path = KERNEL, compiler=("cc",), more=()) -> Path:
    """Compile the driver around a kernel source."""
    program = folder / f"count-{kernel.stem}-{len(list(folder.iterdir()))}"
    which = f'-DOOMGUARD_KERNEL="{kernel.absolute()}"'
    subprocess.run([*compiler, *FLAGS, *more, f"-I{sysconfig.get_path('include')}", which, str(HERE / "count.c"),
                    "-o", str(program), "-lm"], check=True)
    return program


# -- counting --------------------------------------------------------------------------------------------------------

def count(program: Path, data: Path, times: int = TIMES, *, with_caches: bool = False) -> dict[str, dict[str, float]]:
    """Return what one call of each stage takes, by event (Ir: instructions), the average of `times` calls."""
    out = program.with_suffix(".callgrind")
    subprocess.run(["valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={out}", "--compress-strings=no",
                    "--compress-pos=no", *(CACHES if with_caches else ()), str(program), str(data), "all", str(times)],
                   check=True, capture_output=True)
    return _called_by_main(out.read_text(), times)


def _called_by_main(text: str, times: int) -> dict[str, dict[str, float]]:
    events = re.search(r"^events: (.*)$", text, re.MULTILINE)[1].split()
    found = {}
    for block in re.split(r"^fn=", text, flags=re.MULTILINE):
        if block.split("\n", 1)[0].endswith("main"):
            for stage, costs in re.findall(r"^cfn=(?:\S*:)?stage_(\w+)\ncalls=.*\n\S+ (.*)$", block, re.MULTILINE):
                sums = found.setdefault(stage, dict.fromkeys(events, 0.0))
                for event, cost in zip(events, costs.split(), strict=False):        # zeros at the end are left out
                    sums[event] += int(cost) / times
    return {stage: {event: round(value, 1) for event, value in found[stage].items()} for stage in STAGES}


def count_python(folder: Path, times: int = TIMES) -> dict[str, dict[str, float]]:
    """Return the instructions of the calls that the guard makes from Python, a call of nothing beside them."""
    library, out = folder / "marks.so", folder / "python.callgrind"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", str(HERE / "marks.c"), "-o", str(library)], check=True)
    settings = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(KERNEL.parent.parent)}
    subprocess.run(["valgrind", "--tool=callgrind", "--quiet", "--instr-atstart=no", f"--callgrind-out-file={out}",
                    sys.executable, str(HERE / "python_calls.py"), str(library), str(times)], check=True, env=settings)
    counts = {}
    for part in sorted(folder.glob("python.callgrind.*")):
        text = part.read_text()
        name = re.search(r"^desc: Trigger: Client Request: (\w+)$", text, re.MULTILINE)
        if name:
            total = int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[1])
            counts[name[1]] = {"Ir": round(total / times, 1)}
    return counts


def count_aarch64(folder: Path, data: Path) -> dict[str, dict[str, float]]:
    """Return each stage's instructions on aarch64, and whether its results are the native ones to the bit.

    qemu tells of every instruction it runs; WINDOWS calls less none are that many calls.
    """
    there = build(folder, compiler=(sys.executable, "-m", "ziglang", "cc", *AARCH64))
    here, found = build(folder), {}
    for stage in STAGES:
        with_calls, without = (_traced(there, data, stage, times) for times in (WINDOWS, 0))
        said, ours = (subprocess.run([*program, str(data), stage, str(WINDOWS)], check=True, capture_output=True).stdout
                      for program in ((QEMU, str(there)), (str(here),)))
        found[stage] = {"Ir": round((with_calls - without) / WINDOWS, 1), "has_same_bits": said == ours}
    return found


def _traced(program: Path, data: Path, stage: str, times: int) -> int:
    argv = [QEMU, "-singlestep", "-d", "exec,nochain", str(program), str(data), stage, str(times)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        return sum(line.startswith(b"Trace") for line in child.stderr)


# -- the gate --------------------------------------------------------------------------------------------------------

def toolchain() -> dict[str, str]:
    """Return what counts depend on beside the code."""
    said = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout
    return {"architecture": platform.machine(), "avx2": str(" avx2 " in Path("/proc/cpuinfo").read_text()),
            "cc": said.splitlines()[0], "python": platform.python_version(), "libc": "-".join(platform.libc_ver())}


def over(counts: dict, baseline: dict, now: dict[str, str]) -> list[str]:
    """Return in words what takes more instructions than the baseline and its margin allow.

    Nothing, where the processor has other instructions than the baseline's: there are no two figures to compare.
    """
    if any(baseline["toolchain"].get(key) != now.get(key) for key in ("architecture", "avx2")):
        return []
    margin = MARGIN_RATIO if baseline["toolchain"] == now else OTHER_MARGIN_RATIO
    return [f"{stage}: {counts[stage]['Ir']:.0f} instructions are {counts[stage]['Ir'] / kept['Ir'] - 1:+.1%} of the "
            f"baseline's {kept['Ir']:.0f}; {margin:.0%} are allowed"
            for stage, kept in baseline["counts"].items()
            if stage in counts and counts[stage]["Ir"] > kept["Ir"] * (1 + margin)]


def gate(folder: Path, kernel: Path = KERNEL) -> dict[str, dict[str, float]]:
    """Return the counts that CI compares: the kernel's own; the calls from Python are counted beside it."""
    data = folder / "made.input"
    if not data.exists():
        made(data)
    return count(build(folder, kernel), data)


def main(argv: list[str]) -> int:
    """Count, then compare or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--default", action="store_true")
    parser.add_argument("--aarch64", action="store_true")
    parser.add_argument("--kernel", type=Path, default=KERNEL, help="another kernel source")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.aarch64:
            made(folder / "made.input")
            counts = count_aarch64(folder, folder / "made.input")
        elif args.default:
            shipped(folder / "shipped.input")
            counts = count(build(folder, args.kernel), folder / "shipped.input", with_caches=True)
        else:
            counts = gate(folder, args.kernel) | count_python(folder)
    sys.stdout.write(table(counts) + "\n")
    if args.default:
        return 0
    if args.aarch64:
        return 0 if all(one["has_same_bits"] for one in counts.values()) else 1
    if args.update:
        kept = {"toolchain": toolchain(), "margin_ratio": MARGIN_RATIO, "counts": counts}
        BASELINE.write_text(json.dumps(kept, indent=1) + "\n")
        return 0
    problems = over(counts, json.loads(BASELINE.read_text()), toolchain())
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


def table(counts: dict[str, dict[str, float]]) -> str:
    """Return the counts as people read them."""
    events = [event for event in (*EVENTS, "has_same_bits") if any(event in one for one in counts.values())]
    rows = [["a call of", *events], *([stage, *(str(one.get(event, "")) for event in events)]
                                      for stage, one in counts.items())]
    return "\n".join("".join(f"{cell:>14}" if at else f"{cell:<16}" for at, cell in enumerate(row)) for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
