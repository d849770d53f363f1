"""The nginx hook: a real nginx with its cache on tmpfs, and folders that somebody prepared."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import MIB, Guarding, Program, cgroup_bytes, faking, free_port, is_open, joined, tool, until

from oomguard.decide.plan import HookPlan
from oomguard.enclosure import Enclosure

Start = Callable[..., Any]
BODY_BYTES = 256 * 1024
WRITE_FILES = ("mkdir -p a/bc && for i in 1 2 3 4; do n=$(echo $i | md5sum | cut -c1-32); "
               "dd if=/dev/zero of=a/bc/$n bs=1M count=5 status=none; done; sync -f a")


def plan(cache: Path, **more: Any) -> HookPlan:
    return HookPlan("nginx", "nginx", address=str(cache), **({"deadline_s": 10.0} | more))


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    """A folder on tmpfs: mounted here where we may, for other tests fill /dev/shm too."""
    made = Path(tempfile.mkdtemp(prefix="ogs-"))
    is_mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=0777", "oomguard", str(made)],
                                capture_output=True).returncode == 0
    if not is_mounted:
        pytest.skip("no tmpfs can be mounted here")
    yield made
    subprocess.run(["umount", str(made)], check=True)
    made.rmdir()


class Nginx(Program):
    """An nginx that caches what an upstream says."""

    def __init__(self, folder: Path, cache: Path, upstream: int, enclosure: Enclosure | None = None) -> None:
        self.port = free_port()
        config = folder / "nginx.conf"
        config.write_text(f"""
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/temp; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  proxy_cache_path {cache} levels=1:2 keys_zone=z:4m use_temp_path=off;
  server {{ listen 127.0.0.1:{self.port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_cache z; proxy_cache_valid any 1h;
                  add_header X-Cache $upstream_cache_status; }} }}
}}""")
        super().__init__(tool("nginx"), "-p", str(folder), "-c", str(config), enclosure=enclosure)
        until(lambda: is_open(self.port), "nginx")

    def get(self, path: str) -> tuple[str, bytes]:
        """Return whether the cache had it, and what it is."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=20) as answer:
            return answer.headers["X-Cache"], answer.read()


def talk(connection: Any) -> None:
    """Answer every request with the same body."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES + b"x" * BODY_BYTES)


def test_the_coldest_files_of_a_real_cache_go_and_nginx_goes_on(
    guard: Guarding, start: Start, folder: Path, tmpfs: Path, enclosure: Callable[..., Enclosure],
) -> None:
    """Of 30 MiB on tmpfs 10 come back, by the file system's count and the cgroup's; what was hot is still a hit."""
    group = enclosure()
    with faking(talk) as upstream:
        nginx = start(Nginx, folder, tmpfs / "cache", upstream.port, enclosure=group)
        for i in range(120):
            assert nginx.get(str(i))[0] == "MISS"
        files = sorted((tmpfs / "cache").rglob("?" * 32))
        assert len(files) == 120
        hot = next(path for path in files if path.name == hashlib.md5(
            f"http://127.0.0.1:{upstream.port}/0".encode()).hexdigest())
        os.utime(hot, (2e9, 2e9))
        before = cgroup_bytes(group)
        outcome = guard.ask(plan(tmpfs / "cache"), needed_bytes=10 * MIB)
        fell = before - cgroup_bytes(group)
        print(f"nginx: asked {10 * MIB}, said {outcome.freed_bytes:.0f}, cgroup {fell}, {outcome.duration_s:.3f} s")
        assert outcome.ok, outcome.why
        assert 10 * MIB <= outcome.freed_bytes < 11 * MIB
        assert abs(outcome.freed_bytes - fell) < MIB
        assert nginx.get("0")[0] == "HIT"
        verdicts = [nginx.get(str(i)) for i in range(120)]
        missed = sum(verdict == "MISS" for verdict, _ in verdicts)
        assert missed * BODY_BYTES >= 9 * MIB
        assert missed < 60, "the others are still there"
        assert all(len(body) == BODY_BYTES for _, body in verdicts)


def cache_file(folder: Path, number: int, size: int = 4096, touched_s: float = 1000.0) -> Path:
    name = hashlib.md5(str(number).encode()).hexdigest()
    path = folder / name[-1] / name[-3:-1] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (touched_s, touched_s))
    return path


def test_only_the_coldest_and_only_as_many_as_needed(guard: Guarding, tmpfs: Path) -> None:
    """Of ten files the three that were untouched for longest go for twelve kilobytes."""
    files = [cache_file(tmpfs, i, touched_s=1000.0 + i) for i in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)]
    files.sort(key=lambda path: path.stat().st_mtime)
    outcome = guard.ask(plan(tmpfs), needed_bytes=12_000)
    assert outcome.freed_bytes == 3 * 4096
    assert [path.exists() for path in files] == [False] * 3 + [True] * 7
    assert guard.ask(plan(tmpfs), ratio=0.5).freed_bytes == 4 * 4096
    assert guard.ask(plan(tmpfs), release_all=True).freed_bytes == 3 * 4096
    assert not guard.ask(plan(tmpfs)).ok


def test_nothing_but_cache_files_is_touched(guard: Guarding, tmpfs: Path, tmp_path: Path) -> None:
    """Links, other names, other file systems, deep folders and special files stay, and so does what links lead to."""
    outside = tmp_path / "outside"
    victim = cache_file(outside, 1)
    cache = tmpfs / "cache"
    cache.mkdir()
    (cache / "a").symlink_to(outside / victim.parent.parent.name)
    name = hashlib.md5(b"2").hexdigest()
    (cache / name).symlink_to(victim)
    (cache / "notes.txt").write_text("mine")
    (cache / f"{name}.0000000001").write_text("being written")
    (cache / name.upper()).write_text("not nginx'")
    os.mkfifo(cache / hashlib.md5(b"3").hexdigest())
    (cache / hashlib.md5(b"4").hexdigest()).mkdir()
    deep = cache_file(cache / "a1" / "b2" / "c3" / "d", 5)
    long = cache_file(cache / "long-name", 6)
    gone = cache_file(cache, 7)
    outcome = guard.ask(plan(cache), release_all=True)
    assert outcome.freed_bytes == 4096
    assert not gone.exists()
    assert all(path.exists() for path in (victim, deep, long, cache / "notes.txt", cache / f"{name}.0000000001",
                                          cache / name.upper(), cache / hashlib.md5(b"4").hexdigest()))
    assert (cache / name).is_symlink()


def test_a_cache_that_is_a_link_or_missing_is_refused(guard: Guarding, tmpfs: Path, tmp_path: Path) -> None:
    """The folder itself must be one."""
    kept = cache_file(tmpfs / "cache", 1)
    (tmp_path / "link").symlink_to(tmpfs / "cache")
    assert not guard.ask(plan(tmp_path / "link")).ok
    assert not guard.ask(plan(tmp_path / "missing")).ok
    assert kept.exists()


def test_a_dry_run_deletes_nothing(guarding: Callable[..., Guarding], tmpfs: Path) -> None:
    """It counts."""
    kept = cache_file(tmpfs, 1)
    assert "dry run: 1 files" in guarding(dry_run=True).ask(plan(tmpfs)).why
    assert kept.exists()


def test_on_a_disk_files_stay_and_their_page_cache_goes(
    guard: Guarding, enclosure: Callable[..., Enclosure],
) -> None:
    """No file is deleted where that would free no memory; the cgroup's page cache falls all the same."""
    group = enclosure()
    folder = Path(tempfile.mkdtemp(prefix="ogs-", dir="/var/tmp"))
    try:
        made = subprocess.run(joined(group, "sh", "-c", WRITE_FILES), cwd=folder)
        assert made.returncode == 0

        def cached() -> int:
            lines = dict(line.split() for line in Path(group.directory, "memory.stat").read_text().splitlines())
            return int(lines.get("total_cache", lines.get("file", "0")))

        before = cached()
        if before < 15 * MIB:
            pytest.skip("this file system keeps no page cache for the group")
        outcome = guard.ask(plan(folder), release_all=True)
        print(f"page cache: before {before}, after {cached()}: {outcome.why}")
        assert outcome.ok
        assert outcome.freed_bytes != outcome.freed_bytes
        assert len(list(folder.rglob("?" * 32))) == 4
        assert cached() < before - 15 * MIB
    finally:
        shutil.rmtree(folder)
