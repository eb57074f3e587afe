"""A uri, read once: what is checked and what is asked are the same parts.

The grammar is a small part of RFC 3986, in ASCII. What other readers of uris understand in two ways
(user info, numeric hosts, backslashes, percent signs in a host, blanks) is outside of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TargetRefused", "WebTarget", "allowed_target", "read_target"]

_LONGEST = 2048
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# The last label begins with a letter: then no reader takes the host for a number.
_HOST = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?", re.ASCII)
_URI = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]{1,253})(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?:\?(?P<query>(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*))?",
    re.ASCII,
)
_CONTROL = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
_PORTS = {"http": 80, "https": 443}


class TargetRefused(Exception):
    """Why a uri is not fetched, for the log alone."""


@dataclass(frozen=True, slots=True)
class WebTarget:
    """What is asked of whom.

    Attributes:
        scheme: `http` or `https`.
        host: Lower case, in ASCII, never a number.
        port: TCP port.
        path: Path and query as they go over the wire.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The Host header: the port is named where it is not the scheme's own."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"


def read_target(uri: str) -> WebTarget:
    """Take a uri apart.

    Raises:
        TargetRefused: It is outside of the grammar.
    """
    if len(uri) > _LONGEST:
        raise TargetRefused(f"{len(uri)} characters")
    found = _URI.fullmatch(uri)
    if found is None:
        raise TargetRefused("not a plain http or https uri")
    host = found["host"].lower()
    if not _HOST.fullmatch(host):
        raise TargetRefused("the host is no name")
    path, query = found["path"] or "/", found["query"]
    if _CONTROL.search(path) or (query and _CONTROL.search(query)):
        raise TargetRefused("control characters in the path")
    port = int(found["port"]) if found["port"] else _PORTS[found["scheme"]]
    return WebTarget(found["scheme"], host, port, path if query is None else f"{path}?{query}")


def allowed_target(uri: str, hosts: Sequence[str], ports: Sequence[int]) -> WebTarget:
    """A uri whose host and port are on the lists.

    Args:
        uri: As a client wrote it.
        hosts: Names, or `*.example.com` for every name below.
        ports: TCP ports.

    Raises:
        TargetRefused: It is not.
    """
    target = read_target(uri)
    if not any(_fits(target.host, host) for host in hosts):
        raise TargetRefused("the host is not on the list")
    if target.port not in ports:
        raise TargetRefused("the port is not on the list")
    return target


def _fits(host: str, listed: str) -> bool:
    return host.endswith(listed[1:]) if listed.startswith("*.") else host == listed
