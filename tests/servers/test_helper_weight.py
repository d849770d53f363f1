"""What server hooks cost the helper: nothing before the first, little after it, and no module that is not meant."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from serving import Guarding, faking
from test_hostile_servers import KINDS, garbage, hook, resident_kb

from oomguard.decide.plan import SERVER_KINDS, HookPlan

AGENT = Path(__file__).parents[2] / "agent"
HEAVY = ("socket", "threading", "ssl", "http", "urllib", "hashlib", "selectors", "subprocess", "asyncio", "email",
         "dataclasses", "inspect", "typing", "logging")
LIGHT_KB = 3072     # measured: 10.6 MB before, 12.5 with every kind loaded and used


def loaded(code: str) -> set[str]:
    code = f"import sys; sys.path.append({str(AGENT)!r})\n{code}\nprint(*sys.modules)"
    out = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_before_the_first_server_hook_nothing_of_them_is_loaded() -> None:
    """A helper for commands and signals is as light as ever."""
    modules = loaded("import oomguard.act.helper")
    assert not [name for name in modules if name.startswith("oomguard.act.servers")]
    assert not modules & set(HEAVY)


def test_all_of_them_bring_no_heavy_module() -> None:
    """Sockets and threads come from what is below `socket` and `threading`."""
    imports = "\n".join(f"import oomguard.act.servers.{kind}" for kind in (*SERVER_KINDS, "jobs"))
    assert not loaded(imports) & set(HEAVY)


def test_a_helper_that_has_used_every_kind_stays_small(guard: Guarding) -> None:
    """From the first command to the last kind it grows by less than three MiB."""
    guard.ask(HookPlan("c", "command", argv=("true",)))
    helper = guard.runner.helper_pid
    before = resident_kb(helper)
    with faking(garbage) as fake:
        for kind in KINDS:
            guard.ask(hook(kind, fake.address))
        guard.ask(HookPlan("n", "nginx", address="/nowhere"))
        guard.ask(HookPlan("j", "jvm"), pids=(1,))
    print(f"helper: {before} kB before the first server hook, {resident_kb(helper)} kB after every kind")
    assert resident_kb(helper) < before + LIGHT_KB


def test_a_helper_without_notes_loads_nothing_for_them(guarding: Callable[..., Guarding], folder: Path) -> None:
    """An empty folder of notes is looked at once; without the folder not even that."""
    guard = guarding()
    guard.ask(HookPlan("c", "command", argv=("true",)))
    maps = Path(f"/proc/{guard.runner.helper_pid}/task").iterdir()
    assert len(list(maps)) == 1
