"""Reads the hooks that ask a server: redis, memcached, nginx, jvm, webhook, chromium."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from oomguard.decide.addresses import SOCKET_PATH_MAX_BYTES, UNIX, is_local, split_address, split_url
from oomguard.decide.place import Place
from oomguard.decide.plan import EVICTING_POLICIES

PATH_MAX_CHARS = 4096

Settings = dict[str, Any]


def _fields(place: Place, allowed: Sequence[str], required: str) -> dict[str, Place]:
    return place.fields(allowed, required=(required,))


def _redis(place: Place) -> Settings:
    fields = _fields(place, ("address", "user", "password_file", "policy"), "address")
    settings: Settings = {}
    if "address" in fields:
        settings["address"] = _address(fields["address"])
    if "user" in fields:
        settings["user"] = fields["user"].text()
        if "password_file" not in fields:
            place.wrong("password_file is missing: a user needs one")
    if "password_file" in fields:
        settings["password_file"] = _path(fields["password_file"])
    if "policy" in fields:
        settings["policy"] = fields["policy"].choice(EVICTING_POLICIES)
    return settings


def _memcached(place: Place) -> Settings:
    fields = _fields(place, ("address",), "address")
    return {"address": _address(fields["address"])} if fields else {}


def _nginx(place: Place) -> Settings:
    fields = _fields(place, ("cache",), "cache")
    return {"address": _path(fields["cache"])} if fields else {}


def _jvm(place: Place) -> Settings:
    if place.node.value is not True:
        place.wrong(f"{place.shown()} is not true: the target's JVMs are meant")
    return {}


def _webhook(place: Place) -> Settings:
    fields = _fields(place, ("url", "remote", "token_file"), "url")
    is_remote = fields["remote"].flag() if "remote" in fields else False
    settings: Settings = {}
    if "url" in fields:
        settings["address"] = _url(fields["url"], is_remote)
    if "token_file" in fields:
        settings["password_file"] = _path(fields["token_file"])
    return settings


def _chromium(place: Place) -> Settings:
    fields = _fields(place, ("address",), "address")
    if "address" not in fields:
        return {}
    address = _address(fields["address"])
    if address.startswith(UNIX) or (address != "?" and not is_local(split_address(address)[0])):
        fields["address"].wrong(f"{address!r} is not a port of this machine such as 127.0.0.1:9222")
    return {"address": address}


def _address(place: Place) -> str:
    address = place.text()
    if address.startswith(UNIX):
        path = address.removeprefix(UNIX)
        if not path.startswith("/") or len(path.encode()) > SOCKET_PATH_MAX_BYTES:
            place.wrong(f"{place.shown()} is not unix: and a path of at most {SOCKET_PATH_MAX_BYTES} bytes")
        return address
    try:
        split_address(address)
    except ValueError as error:
        place.wrong(f"{error}, nor unix:/path")
        return "?"
    return address


def _url(place: Place, is_remote: bool) -> str:
    text = place.text(PATH_MAX_CHARS)
    try:
        host = split_url(text).host
    except ValueError as error:
        place.wrong(str(error))
        return "?"
    if not is_remote and not is_local(host):
        place.wrong(f"{host} is not this machine, and nothing is encrypted on the way: say remote: true if it is meant")
    return text


def _path(place: Place) -> str:
    path = place.text(PATH_MAX_CHARS)
    if not path.startswith("/") or ".." in path.split("/"):
        place.wrong(f"{place.shown()} is not a path from the root, such as /etc/oomguard/secret")
    return path


SERVER_SETTINGS: dict[str, Callable[[Place], Settings]] = {
    "redis": _redis, "memcached": _memcached, "nginx": _nginx, "jvm": _jvm, "webhook": _webhook,
    "chromium": _chromium}
