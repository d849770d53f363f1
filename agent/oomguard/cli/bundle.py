"""`oomguard bundle`: look at a model's bundle, sign it, check who signed it, make the key for that."""

from __future__ import annotations

import argparse
import json
import os
import sys

from oomguard.errors import BundleError, UsageError
from oomguard.record.paths import state_dir
from oomguard.trust import keys, signature
from oomguard.trust.bundle import MANIFEST_MAX_BYTES, Bundle, load_bundle, load_shipped, shipped_folder
from oomguard.trust.files import Folder
from oomguard.trust.releases import model_name, refuse_older

NAME = "bundle"
HELP = "sign a model's bundle, verify who signed it, show what it is, make a key"
EXAMPLES = """\
  oomguard bundle keygen fleet --out ~/keys       fleet.key stays where bundles are signed
  oomguard bundle sign models/mine --key ~/keys/fleet.key
  install -m 644 ~/keys/fleet.pub /etc/oomguard/keys/      on each device, as root
  oomguard bundle verify /var/lib/oomguard/models/mine
  oomguard bundle show shipped
"""
PASSPHRASE_MAX_BYTES = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the four things that can be done with a bundle."""
    what = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    keygen = what.add_parser("keygen", help="make a pair of keys: NAME.key to sign with, NAME.pub for the devices")
    keygen.add_argument("key_name", metavar="NAME")
    keygen.add_argument("--out", metavar="DIR", default=".", help="where they are written (default: here)")
    sign = what.add_parser("sign", help="write manifest.sig into a bundle whose files are those of its manifest")
    sign.add_argument("folder", metavar="DIR")
    sign.add_argument("--key", metavar="FILE", required=True, help="the private key, readable by its owner alone")
    for each in (keygen, sign):
        each.add_argument("--passphrase-file", metavar="FILE", default="",
                          help="what the private key is encrypted with; its first line")
    verify = what.add_parser("verify", help="check a bundle as a service does; exit 4 when it would be refused")
    verify.add_argument("folder", metavar="DIR", help="the bundle's folder, or `shipped`")
    verify.add_argument("--allow-older", action="store_true", help="do not ask which release was taken before")
    show = what.add_parser("show", help="show what a bundle is, trusted or not; exit 4 when it is no bundle")
    show.add_argument("folder", metavar="DIR", help="the bundle's folder, or `shipped`")
    for each in (verify, show):
        each.add_argument("--keys", metavar="DIR", default=keys.KEYS_DIR, help="whose signatures are believed "
                          "(default: %(default)s)")
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do one of the four."""
    return {"keygen": _keygen, "sign": _sign, "verify": _verify, "show": _show}[args.what](args)


def _keygen(args: argparse.Namespace) -> int:
    if not args.key_name or "/" in args.key_name or args.key_name.startswith((".", "-")):
        raise UsageError(f"{args.key_name!r} is not a plain name for a file")
    made = keys.make_key(args.out, args.key_name, _passphrase(args.passphrase_file))
    print(f"{os.path.join(args.out, made.name)}.key   keep it where bundles are signed, never on a device\n"
          f"{os.path.join(args.out, made.name)}.pub   put it into {keys.KEYS_DIR} of each device\nkey {made.key_id}")
    return 0


def _sign(args: argparse.Namespace) -> int:
    bundle = load_bundle(args.folder, allow_unsigned=True)      # nothing is signed that no guard could load
    with Folder(args.folder, is_strict=True) as folder:
        manifest = folder.read("manifest.json", MANIFEST_MAX_BYTES)
    from hashlib import sha256

    if sha256(manifest).hexdigest() != bundle.digest:
        raise BundleError(f"{args.folder}: its manifest changed while it was signed")
    made = signature.sign(keys.read_secret(args.key, _passphrase(args.passphrase_file)), manifest)
    try:
        path = signature.leave_signature(args.folder, made)
    except OSError as problem:
        raise BundleError(f"{args.folder}: {problem.strerror}") from None
    print(f"{path}: {model_name(bundle)} release {bundle.release}, signed with key {made.key_id}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    if args.folder == "shipped":
        bundle, whose = load_shipped(), "the digest compiled into this version"
    else:
        bundle = load_bundle(args.folder, keys_dir=args.keys)
        whose = f"the key {bundle.signed_by!r} in {args.keys}"
        if not args.allow_older:
            refuse_older(state_dir(), bundle)
    if args.json:
        print(json.dumps({**_facts(bundle), "vouched_by": whose}, indent=2))
    else:
        print(f"{bundle.folder}: fine\n  model    {bundle.model_id}, release {bundle.release}\n  vouched  {whose}")
    return 0


def _show(args: argparse.Namespace) -> int:
    folder = shipped_folder() if args.folder == "shipped" else args.folder
    bundle = load_bundle(folder, allow_unsigned=True)
    try:
        trust = load_shipped() if args.folder == "shipped" else load_bundle(folder, keys_dir=args.keys)
        vouched, why_not = trust.signed_by or "the digest compiled into this version", ""
    except BundleError as problem:
        vouched, why_not = "", str(problem)
    if args.json:
        print(json.dumps({**_facts(bundle), "vouched_by": vouched or None, "problem": why_not or None}, indent=2))
        return 0
    print(f"{folder}\n  model       {bundle.model_id}\n  release     {bundle.release}\n  manifest    {bundle.digest}\n"
          f"  forest      {len(bundle.forest)} bytes\n  vouched by  {vouched or 'nobody'}")
    for kind, own in sorted(bundle.thresholds.items()):
        levels = ", ".join(f"{name} {getattr(own, name):g}" for name in own._fields)
        print(f"  thresholds  {kind}: {levels}")
    if why_not:
        print(f"oomguard: {why_not}", file=sys.stderr)
    return 0


def _facts(bundle: Bundle) -> dict[str, object]:
    return {"folder": bundle.folder, "model": bundle.model_id, "name": model_name(bundle), "release": bundle.release,
            "manifest_sha256": bundle.digest, "forest_bytes": len(bundle.forest),
            "thresholds": {kind: own._asdict() for kind, own in sorted(bundle.thresholds.items())}}


def _passphrase(path: str) -> bytes | None:
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            first = file.readline(PASSPHRASE_MAX_BYTES).rstrip(b"\r\n")
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None
    if not first:
        raise UsageError(f"{path}: its first line is empty")
    return first
