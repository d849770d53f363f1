"""The JVM client: a real app under a real limit, killed without it and alive with it; and what may happen to it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from talking import TRIM, Start, charge_here, comes_back, dies_of_memory, exec_, lives_to_its_end, talks

CLIENT = Path(__file__).parents[2] / "agent" / "clients" / "jvm"
PROGRAMS = Path(__file__).parent / "programs"
LIMIT, TOTAL_MIB, MIB_PER_S = "160MiB", "240", "40"
COLLECTOR = ("-Xmx1g", "-XX:+UseSerialGC", "-XX:-ShrinkHeapInSteps", "-XX:MinHeapFreeRatio=5",
             "-XX:MaxHeapFreeRatio=10")
OLDEST = 17                 # Java's, for AF_UNIX and records


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client and the test programs, compiled without one warning."""
    if shutil.which("javac") is None:
        pytest.skip("javac is not installed")
    version = subprocess.run(["javac", "-version"], capture_output=True, text=True, timeout=60)
    found = re.search(r"javac (\d+)", version.stdout + version.stderr)
    if found is None or int(found[1]) < OLDEST:
        pytest.skip(f"javac is older than {OLDEST}")
    charge_here(*Path(shutil.which("javac") or "").resolve().parents[1].glob("lib/server/*.so"))
    out = tmp_path_factory.mktemp("classes")
    (out / "Player.java").write_text(_block())
    compile_(out, *CLIENT.glob("oomguard/*.java"), *PROGRAMS.glob("*.java"), out / "Player.java")
    return out


def _block() -> str:
    [code] = re.findall(r"^```java\n(.*?)^```", (CLIENT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return str(code)


def compile_(out: Path, *sources: Path) -> None:
    """Compile; warnings are errors."""
    strict = ("--release", str(OLDEST), "-Xlint:all,-options", "-Werror")
    subprocess.run(["javac", *strict, "-d", str(out), *map(str, sources)], check=True, timeout=120)


@pytest.fixture
def map_app(start: Start, needs_cgroup: None, rules: Callable[[str], str], classes: Path) -> Callable[..., Any]:
    """Start the app with a bounded map: map_app(mode, hook that the rule names, before the program)."""
    def begin(mode: str, hook: str = "image-cache", before: tuple[str, ...] = ()) -> Any:
        return exec_(start, LIMIT, rules(TRIM.replace("HOOK", hook)), *before, "java", *COLLECTOR, "-cp", str(classes),
                     "MapApp", TOTAL_MIB, MIB_PER_S, mode)
    return begin


def test_an_app_whose_hook_gives_nothing_is_killed(map_app: Callable[..., Any]) -> None:
    """The kernel's oom_kill counts: this is what is prevented."""
    dies_of_memory(map_app("noop"))


def test_an_app_with_a_hook_lives(map_app: Callable[..., Any]) -> None:
    """The same app, evicting about what is needed, ends when it meant to; the client does not hold it."""
    lives_to_its_end(map_app("evict"), "image-cache")


def test_an_app_without_the_socket_hears_the_fifo(map_app: Callable[..., Any]) -> None:
    """Without OOMGUARD_SOCKET the same hook is called at what MEMORY_PRESSURE_WATCH says."""
    lives_to_its_end(map_app("evict", "pressure", ("env", "-u", "OOMGUARD_SOCKET")), "pressure")


def test_everything_the_protocol_may_bring(straw: Any, child: Callable[..., Any], classes: Path, folder: Path) -> None:
    """Hooks that answer, fail, say nothing; gauges by the thousand; nonsense; a guard that comes and goes."""
    talks(straw, _talker(child, classes)(str(folder / "straw.sock")))


def test_it_comes_back_to_a_guard_that_was_restarted(start: Start, child: Callable[..., Any], classes: Path) -> None:
    """After kill -9 and a new start of the guard the hooks are there again."""
    comes_back(start, _talker(child, classes), {"good", "bad", "quiet"})


def _talker(child: Callable[..., Any], classes: Path) -> Callable[[str], Any]:
    return lambda path: child("java", "-XX:+UseSerialGC", "-Xmx64m", "-Dstdout.encoding=UTF-8", "-Dfile.encoding=UTF-8",
                              "-cp", str(classes), "Talker", path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_the_program_of_its_page_runs(classes: Path, tmp_path: Path) -> None:
    """The example of README.md compiles (see `classes`) and ends at once, guard or no guard."""
    ended = subprocess.run(["java", "-cp", str(classes), "Player"], capture_output=True, text=True, timeout=60,
                           env={"OOMGUARD_SOCKET": str(tmp_path / "none"), "PATH": "/usr/bin:/bin"})
    assert (ended.returncode, ended.stderr) == (0, "")
