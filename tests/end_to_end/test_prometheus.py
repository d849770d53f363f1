"""A real Prometheus scrapes a real guard, alerts fire, and what we ship for Grafana asks for what is there."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guarded import PROGRAMS, Guard, until

DEPLOY = Path(__file__).resolve().parents[2] / "agent" / "deploy"
ALERTS = DEPLOY / "prometheus-alerts.yml"
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
METRIC = re.compile(r"oomguard_[a-z_]+")


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def queries() -> list[str]:
    """Return every query of the dashboard, with Grafana's variables filled in as Grafana does for All."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    found += [each["expr"] for each in DASHBOARD["annotations"]["list"]]
    return [re.sub(r"\$(job|instance|target)", ".*", each).replace("$__rate_interval", "1m").replace("$__range", "30m")
            for each in found]


def told_names(page: str) -> set[str]:
    """Return the names of the series in an exposition."""
    return set(re.findall(r"^(oomguard_[a-z_]+)", page, re.MULTILINE))


def promtool(*argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    return subprocess.run(["promtool", *argv], input=text, capture_output=True, text=True, timeout=60)


class Prometheus:
    """A Prometheus that scrapes one address twice a second, with our alerts."""

    def __init__(self, folder: Path, scraped: str) -> None:
        self._url = f"http://127.0.0.1:{free_port()}"
        config = folder / "prometheus.yml"
        config.write_text(f"global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n"
                          f"rule_files: [{ALERTS}]\n"
                          f"scrape_configs: [{{job_name: oomguard, static_configs: [{{targets: ['{scraped}']}}]}}]\n")
        self._log = (folder / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self._url.removeprefix('http://')}"], stdout=self._log, stderr=self._log)

    def get(self, path: str, **query: str) -> Any:
        """Return the answer of its API, None while it does not answer."""
        try:
            url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return None

    def value(self, query: str) -> float | None:
        """Return the one value of a query, None where there is none."""
        answer = self.get("query", query=query)
        return float(answer["result"][0]["value"][1]) if answer and answer["result"] else None

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        answer = self.get("alerts") or {"alerts": []}
        return {alert["labels"]["alertname"] for alert in answer["alerts"] if alert["state"] == "firing"}

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture
def prometheus(folder: Path) -> Iterator[Callable[[str], Prometheus]]:
    """Start one that scrapes this address."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    made: list[Prometheus] = []

    def begin(scraped: str) -> Prometheus:
        made.append(Prometheus(folder, scraped))
        return made[-1]

    yield begin
    for one in made:
        one.end()


def test_alerts_are_sound() -> None:
    """promtool takes the rules, and each fires where it should and not where it should not."""
    for argv in (["check", "rules", str(ALERTS)], ["test", "rules", str(Path(__file__).with_name("alerts_test.yml"))]):
        done = promtool(*argv)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_and_panel_asks_for_what_is_told() -> None:
    """Names in alerts and dashboard are names on docs/metrics.md, which the next test holds against a live guard."""
    page = set(METRIC.findall(PAGE.read_text()))
    asked = set(METRIC.findall(ALERTS.read_text())) | {name for query in queries() for name in METRIC.findall(query)}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} - page == set()


def test_a_guard_that_is_scraped(start: Callable[..., Guard], folder: Path,
                                 prometheus: Callable[[str], Prometheus]) -> None:
    """From the app's memory to an alert: quiet, firing when the app is at its limit, quiet again when it gave back."""
    address, file = f"127.0.0.1:{free_port()}", folder / "oomguard.prom"
    guard = start("exec", "--name", "player", "--limit", "64MiB", "--model", "none", "--metrics-http", address,
                  "--metrics-file", str(file), "--", sys.executable, "-S", str(PROGRAMS / "holder.py"),
                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if not any("cgroup:" in each for each in guard.event("guarding")["constraints"]):
        pytest.skip("no memory cgroup can be made here")
    app = guard.process
    assert app.stdin is not None and app.stdout is not None

    def say(line: str) -> None:
        app.stdin.write(line + "\n")
        app.stdin.flush()

    watching = prometheus(address)
    level = 'oomguard_target_level{target="player"}'
    until(lambda: watching.value(level) == 0, "a scrape", guard.said)
    assert "OomguardKillExpected" not in watching.firing()
    say("take 59")
    until(lambda: watching.value(level) == 5, "level 5", guard.said)
    until(lambda: "OomguardKillExpected" in watching.firing(), "the alert", guard.said)
    used, limit = (watching.value(f'oomguard_target_{name}_bytes{{target="player"}}') for name in ("used", "limit"))
    assert used is not None and limit == 64 << 20 and 59 << 20 < used < limit
    for query in queries():
        assert watching.get("query", query=query) is not None, query
    say("drop")
    until(lambda: "OomguardKillExpected" not in watching.firing(), "the end of the alert", guard.said)

    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        page = answer.read().decode()
    checked = promtool("check", "metrics", text=page)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert told_names(page) - set(METRIC.findall(PAGE.read_text())) - {
        f"oomguard_tick_lateness_seconds_{part}" for part in ("bucket", "sum", "count")} == set()
    assert told_names(file.read_text()) - told_names(page) == set()
    assert guard.stop() == 128 + 15 and not file.exists()
