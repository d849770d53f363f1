"""Where servers are: `host:port`, `unix:/path` and `http://host:port/path`, taken apart."""

from __future__ import annotations

from oomguard.typed import NamedTuple

UNIX = "unix:"
PORT_MAX = 65535
SOCKET_PATH_MAX_BYTES = 107     # of sockaddr_un, less its end
LOCAL_NAMES = ("localhost", "::1")


class Url(NamedTuple):
    """Where an HTTP request goes."""

    host: str
    port: int
    path: str

    @property
    def address(self) -> str:
        """What to connect to, and to name as Host."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port` or `[v6]:port`. Raises ValueError."""
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if ":" in bare and bare == host:
        raise ValueError(f"{address!r} is not host:port (an IPv6 address is written [::1]:6379)")
    if not bare or "/" in bare or not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) <= PORT_MAX:
        raise ValueError(f"{address!r} is not host:port")
    return bare, int(port)


def split_url(url: str) -> Url:
    """Return the parts of `http://host[:port][/path][?query]`. Raises ValueError."""
    scheme, _, rest = url.partition("://")
    if scheme != "http":
        raise ValueError(f"{url!r} does not begin with http://")
    if not (url.isascii() and url.isprintable()) or set(url) & set(' #"<>\\'):
        raise ValueError(f"{url!r} holds what no URL may")
    cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    where, path = rest[:cut], rest[cut:]
    if "@" in where:
        raise ValueError(f"{url!r}: a URL is no place for a password")
    has_port = where.rpartition(":")[2].isdigit() and not where.endswith("]")
    host, port = split_address(where if has_port else f"{where}:80")
    return Url(host, port, path if path.startswith("/") else f"/{path}")


def is_local(host: str) -> bool:
    """Return whether a host is this machine's loopback by its name."""
    parts = host.split(".")
    is_v4 = len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts)
    return host in LOCAL_NAMES or (is_v4 and parts[0] == "127")
