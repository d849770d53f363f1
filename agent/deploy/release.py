"""What a release consists of, and where it came from: wheel and sdist that build to the same bytes anywhere.

    python agent/deploy/release.py build --out dist [--commit HEAD]      wheel and sdist, reproducible
    python agent/deploy/release.py provenance --out dist                 dist/provenance.json, dist/SHA256SUMS

Built from a commit, never from a work tree; the commit's time stands in for the clock, no path of the building machine
gets in, and what setuptools leaves to chance in an sdist (times, owners, order) is settled afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from importlib import metadata

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
NOT_SUBJECTS = ("provenance.json", "SHA256SUMS")
TOOLS = ("build", "ziglang")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def build(commit: str, out: str) -> None:
    """Write wheel and sdist of a commit. Raises CalledProcessError: what failed is on stderr."""
    epoch_s = int(_git("show", "-s", "--format=%ct", commit))
    os.makedirs(out, exist_ok=True)
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "source")
        with tarfile.open(fileobj=io.BytesIO(_git_bytes("archive", "--format=tar", commit))) as archive:
            archive.extractall(source, filter="data")
        # Debug data names folders, and the linker's id is made from it: neither is of use in a wheel.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch_s), "PYTHONHASHSEED": "0", "LC_ALL": "C",
                       "TZ": "UTC", "CFLAGS": f"-g0 -ffile-prefix-map={folder}=.", "LDFLAGS": "-Wl,--build-id=none"}
        made = os.path.join(folder, "made")
        subprocess.run([sys.executable, "-m", "build", "--quiet", "--outdir", made, source], check=True,
                       env=environment)
        for name in sorted(os.listdir(made)):
            with open(os.path.join(made, name), "rb") as file:
                data = file.read()
            with open(os.path.join(out, name), "wb") as file:
                file.write(settled(data, epoch_s) if name.endswith(".tar.gz") else data)
            print(os.path.join(out, name))


def settled(sdist: bytes, epoch_s: int) -> bytes:
    """Return an sdist with one time, no owner, sorted names, and no clock in the gzip header."""
    plain, packed = io.BytesIO(), io.BytesIO()
    with (tarfile.open(fileobj=io.BytesIO(sdist)) as old,
          tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            content = old.extractfile(member) if member.isreg() else None
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch_s, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, content)
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=epoch_s, filename="") as file:
        file.write(plain.getvalue())
    return packed.getvalue()


def provenance(out: str, commit: str, repository: str, builder: str) -> dict[str, object]:
    """Return an in-toto statement of SLSA's kind: these digests come from this commit, this builder, these tools."""
    subjects = [{"name": name, "digest": {"sha256": _sha256(os.path.join(out, name))}}
                for name in sorted(os.listdir(out)) if name not in NOT_SUBJECTS]
    if not subjects:
        raise SystemExit(f"{out}: nothing is built there yet")
    tools = [{"name": name, "uri": f"pkg:pypi/{name}@{version}"} for name, version in sorted(_tools(out).items())]
    return {
        "_type": STATEMENT, "subject": subjects, "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"{repository}/blob/main/agent/deploy/release.py",
                "externalParameters": {"commit": _git("rev-parse", commit), "repository": repository},
                "internalParameters": {"python": platform.python_version(), "machine": platform.machine(),
                                       "system": platform.platform()},
                "resolvedDependencies": [
                    {"uri": f"git+{repository}", "digest": {"gitCommit": _git("rev-parse", commit)}}, *tools]},
            "runDetails": {
                "builder": {"id": builder},
                "metadata": {"finishedOn": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}}}}


def write_provenance(out: str, commit: str, repository: str, builder: str) -> None:
    """Write provenance.json and SHA256SUMS, which `sha256sum --check` reads."""
    statement = provenance(out, commit, repository, builder)
    with open(os.path.join(out, "provenance.json"), "w", encoding="utf-8") as file:
        json.dump(statement, file, indent=1)
        file.write("\n")
    names = sorted(name for name in os.listdir(out) if name != "SHA256SUMS")
    with open(os.path.join(out, "SHA256SUMS"), "w", encoding="utf-8") as file:
        file.writelines(f"{_sha256(os.path.join(out, name))}  {name}\n" for name in names)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tools(out: str) -> dict[str, str]:
    """Return what built: the tools that are installed here, and the one that each wheel says it was made by."""
    found = {}
    for name in TOOLS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    for name in sorted(os.listdir(out)):
        if name.endswith(".whl"):
            with zipfile.ZipFile(os.path.join(out, name)) as wheel:
                inside = next(each for each in wheel.namelist() if each.endswith(".dist-info/WHEEL"))
                made_by = re.search(r"^Generator: (\S+) \((\S+)\)", wheel.read(inside).decode(), re.MULTILINE)
            if made_by:
                found[made_by[1]] = made_by[2]      # in a build environment of its own, so not the one that is here
    return found


def _git_bytes(*words: str) -> bytes:
    return subprocess.run(["git", "-C", ROOT, *words], check=True, stdout=subprocess.PIPE).stdout


def _git(*words: str) -> str:
    return _git_bytes(*words).decode().strip()


def main() -> int:
    """Build, or say where what was built came from."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("build", "provenance"))
    parser.add_argument("--out", default="dist", help="the release's folder (default: dist)")
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--repository", default="", help="where the commit is to be found (default: git's origin)")
    parser.add_argument("--builder", default=f"host:{platform.node()}", help="who built: a URI, such as a CI job's")
    args = parser.parse_args()
    if args.what == "build":
        build(args.commit, args.out)
    else:
        repository = args.repository or _git("config", "--default", "unknown", "remote.origin.url")
        write_provenance(args.out, args.commit, repository, args.builder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
