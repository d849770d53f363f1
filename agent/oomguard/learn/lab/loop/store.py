"""Where the trials of a closed loop go: a JSON file each, at once and whole, so that one that was stopped goes on."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from oomguard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

TRIALS, SETTING, RESULTS = "trials", "setting.json", "results.json"


class LoopStore:
    """The finished trials in `folder`/trials, all of one setting."""

    def __init__(self, folder: str, setting: Mapping[str, Any]) -> None:
        """Open or begin it.

        Raises:
            UsageError: the folder's trials are of another setting.
        """
        self.folder = folder
        os.makedirs(f"{folder}/{TRIALS}", exist_ok=True)
        given = json.loads(json.dumps(setting))
        try:
            with open(f"{folder}/{SETTING}", encoding="utf-8") as file:
                kept = json.load(file)
        except FileNotFoundError:
            write_whole(f"{folder}/{SETTING}", given)
            return
        if kept != given:
            other = sorted(name for name in given.keys() | kept.keys() if given.get(name) != kept.get(name))
            raise UsageError(f"{folder}: its trials are of another setting ({', '.join(other)}): name another folder")

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the finished trials by their id."""
        found = {}
        for name in sorted(os.listdir(f"{self.folder}/{TRIALS}")):
            if name.endswith(".json"):
                with open(f"{self.folder}/{TRIALS}/{name}", encoding="utf-8") as file:
                    found[name.removesuffix(".json")] = json.load(file)
        return found

    def add(self, facts: Mapping[str, Any]) -> None:
        """Write a finished trial."""
        write_whole(f"{self.folder}/{TRIALS}/{facts['trial_id']}.json", facts)

    def write_results(self, results: Mapping[str, Any]) -> str:
        """Write what it all came to; return the file's name."""
        path = f"{self.folder}/{RESULTS}"
        write_whole(path, results)
        return path


def write_whole(path: str, what: object) -> None:
    """Write JSON beside the file, then put it in its place. Raises ValueError where it holds a NaN."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(what, file, allow_nan=False)
    os.replace(path + ".new", path)
