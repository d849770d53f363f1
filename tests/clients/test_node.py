"""The Node client: a real app under a real limit, killed without it and alive with it; and what may happen to it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from talking import TRIM, Start, charge_here, comes_back, dies_of_memory, exec_, lives_to_its_end, talks

CLIENT = Path(__file__).parents[2] / "agent" / "clients" / "node"
PROGRAMS = Path(__file__).parent / "programs"
LIMIT, TOTAL_MIB, MIB_PER_S = "100MiB", "150", "35"


@pytest.fixture
def node() -> str:
    """Node, where it is installed."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    linked = subprocess.run(["ldd", found], capture_output=True, text=True)
    charge_here(Path(found).resolve(), *map(Path, re.findall(r"=> (/\S+)", linked.stdout)))
    return found


@pytest.fixture
def lru_app(start: Start, needs_cgroup: None, rules: Callable[[str], str], node: str) -> Callable[..., Any]:
    """Start the app with an LRU cache: lru_app(mode, hook that the rule names)."""
    def begin(mode: str, hook: str = "image-cache") -> Any:
        return exec_(start, LIMIT, rules(TRIM.replace("HOOK", hook)), node, str(PROGRAMS / "lru_app.js"), str(CLIENT),
                     TOTAL_MIB, MIB_PER_S, mode)
    return begin


def test_an_app_whose_hook_gives_nothing_is_killed(lru_app: Callable[..., Any]) -> None:
    """The kernel's oom_kill counts: this is what is prevented."""
    dies_of_memory(lru_app("noop"))


def test_an_app_with_a_hook_lives(lru_app: Callable[..., Any]) -> None:
    """The same app, evicting about what is needed, ends when it meant to; the client does not hold it."""
    guard = lru_app("evict")
    lives_to_its_end(guard, "image-cache")
    assert guard.event("hooks-gone")["hooks"] == ["image-cache"]


def test_an_app_without_the_socket_hears_the_fifo(lru_app: Callable[..., Any]) -> None:
    """Without OOMGUARD_SOCKET the same hook is called at what MEMORY_PRESSURE_WATCH says."""
    lives_to_its_end(lru_app("fifo", "pressure"), "pressure")


def test_everything_the_protocol_may_bring(straw: Any, child: Callable[..., Any], node: str, folder: Path) -> None:
    """Hooks that answer, fail, say nothing; gauges by the thousand; nonsense; a guard that comes and goes."""
    talks(straw, _talker(child, node)(str(folder / "straw.sock")))


def test_it_comes_back_to_a_guard_that_was_restarted(start: Start, child: Callable[..., Any], node: str) -> None:
    """After kill -9 and a new start of the guard the hooks are there again."""
    comes_back(start, _talker(child, node), {"good", "bad", "quiet", "slow"})


def _talker(child: Callable[..., Any], node: str) -> Callable[[str], Any]:
    return lambda path: child(node, str(PROGRAMS / "talker.js"), str(CLIENT), path, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)


def test_it_holds_no_process_alive(node: str, tmp_path: Path) -> None:
    """An app that only connects ends at once, guard or no guard, and nothing is written on standard error."""
    code = f"const g = require({str(CLIENT)!r}).connect({{socket: {str(tmp_path / 'none')!r}}}); g.hook('a', () => 0);"
    ended = subprocess.run([node, "-e", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_the_guard_refuses_is_a_warning(start: Start, node: str) -> None:
    """A name that the guard does not take shows where Node shows its warnings; the app goes on."""
    guard = start("run", "--target", "system", "--model", "none")
    code = f"""
        const g = require({str(CLIENT)!r}).connect({{socket: {guard.socket!r}}});
        g.hook('any', () => 0);
        process.on('warning', (w) => {{ console.log(w.name, w.message); process.exit(0); }});
        setTimeout(() => process.exit(1), 20000);"""
    guard.status()
    ended = subprocess.run([node, "-e", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert ended.stdout.startswith("OomguardWarning hook any: any is a hook of the guard's own")


def test_the_blocks_of_its_page_run(node: str, tmp_path: Path) -> None:
    """Every program of README.md runs as it stands, with the package where npm would put it."""
    place = tmp_path / "node_modules" / "@oomguard"
    place.mkdir(parents=True)
    (place / "client").symlink_to(CLIENT)
    blocks = re.findall(r"^```js\n(.*?)^```", (CLIENT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for number, code in enumerate(blocks):
        (tmp_path / f"block{number}.js").write_text(code)
        ended = subprocess.run([node, f"block{number}.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                               env={"OOMGUARD_SOCKET": str(tmp_path / "none"), "PATH": "/usr/bin:/bin"})
        assert (ended.returncode, ended.stderr) == (0, "")


def test_the_package_names_what_is_there() -> None:
    """The files, the version of the guard, no dependencies."""
    from oomguard._version import __version__

    package = json.loads((CLIENT / "package.json").read_text())
    assert package["version"] == __version__
    assert sorted(package["files"] + ["package.json"]) == sorted(path.name for path in CLIENT.iterdir())
    assert "dependencies" not in package
