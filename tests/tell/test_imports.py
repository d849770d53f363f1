"""What telling costs the daemon in modules."""

import os
import subprocess
import sys

import oomguard.errors

TOO_DEAR = {"argparse", "asyncio", "ctypes", "dataclasses", "inspect", "logging", "msgspec", "numpy",
            "pathlib", "psutil", "selectors", "signal", "socket", "subprocess", "threading", "yaml"}


def test_telling_imports_nothing_dear():
    """A daemon that imports all of tell and the ticker loads none of the modules that cost it dearly."""
    root = os.path.dirname(os.path.dirname(oomguard.errors.__file__))
    names = sorted(name[:-3] for name in os.listdir(f"{root}/oomguard/tell") if name.endswith(".py"))
    code = (f"import sys; sys.path.insert(0, {root!r}); import oomguard.ticker\n"
            + "".join(f"import oomguard.tell.{name}\n" for name in names if name != "__init__")
            + "print(*sys.modules)")
    argv = [sys.executable, "-I", "-S", "-c", code]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True)
    loaded = set(ended.stdout.split())
    assert "oomguard.tell.control" in loaded
    assert loaded & TOO_DEAR == set()
