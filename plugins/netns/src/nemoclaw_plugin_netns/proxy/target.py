"""Where a request wants to go: one answer, from its line, its Host field and its connection."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import attrs

from .head import Fields, HeadError, RequestHead

_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")


class MismatchError(HeadError):
    """A request that is well formed, and names another host than its connection was made for."""


@attrs.frozen(slots=True, cache_hash=True)
class Origin:
    """A server, as a URL names it."""

    host: str
    """Lower case. An IPv6 address is without brackets."""
    port: int
    tls: bool = False
    authority: str = attrs.field(init=False, eq=False)
    """As it stands in a Host field."""

    @authority.default
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Target(NamedTuple):
    """One request's."""

    origin: Origin
    path: bytes
    """With the query; what the origin gets in its request line."""


class Headers(Mapping[str, str]):
    """The fields of a request by lower-case name, made out only when a rule looks at them."""

    __slots__ = ("_fields", "_found")

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._found: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        found = self._found
        if found is None:
            found = self._found = {}
            for raw, value in self._fields:
                name = raw.decode("ascii").lower()
                text = value.decode("latin-1")
                found[name] = f"{found[name]}, {text}" if name in found else text
        return found

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


@functools.lru_cache(maxsize=256)
def read_authority(text: str, default_port: int) -> tuple[str, int]:
    """``HOST[:PORT]`` as a lower-case host without brackets, and a port.

    What a host means is for the core to say: any spelling of an address is passed on as it is.

    :param default_port: 0: the port must be there.
    :raises HeadError: it is nothing of the kind.
    """
    text = text.lower()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError:
            raise HeadError("not an IPv6 address between brackets") from None
        if not bracket or (rest and not rest.startswith(":")):
            raise HeadError("not a host and a port")
        port = rest[1:]
        has_port = bool(rest)
    else:
        host, colon, port = text.partition(":")
        has_port = bool(colon)
        host = host.removesuffix(".")
        if not host or not _NAME.issuperset(host):
            raise HeadError("not a host and a port")
    if not has_port and default_port:
        return host, default_port
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise HeadError("not a host and a port")
    return host, int(port)


def read_target(head: RequestHead, fixed: Origin | None) -> Target:
    """The one server that a request is for.

    :param fixed: what the connection was made for; ``None`` for an explicit proxy, where the
        request line must hold a whole ``http://`` URL.
    :raises MismatchError: it names two servers.
    :raises HeadError: it names none.
    """
    target = head.target
    if fixed is not None and target[:1] == b"/" and head.host == fixed.authority:
        return Target(fixed, target)
    origin = fixed
    path = target
    if target[:1] != b"/" and not (target == b"*" and head.method == "OPTIONS" and fixed):
        origin, path = _absolute(target)
        if fixed is not None and origin != fixed:
            raise MismatchError("the URL of the request names another server than its connection")
    if origin is None:
        raise HeadError("a request to a proxy needs a whole http:// URL")
    if head.host or head.http11:
        host, port = read_authority(head.host, 443 if origin.tls else 80)
        if host != origin.host or port != origin.port:
            raise MismatchError(
                "the Host field names another server than the connection or the URL"
            )
    return Target(origin, path)


def _absolute(target: bytes) -> tuple[Origin, bytes]:
    scheme, colon, rest = target.partition(b"://")
    scheme = scheme.lower()
    if not colon or scheme not in (b"http", b"https"):
        raise HeadError("a request target that is neither a path nor an http:// URL")
    authority, slash, path = rest.partition(b"/")
    if not slash:
        authority, question, query = rest.partition(b"?")
        path = question + query
    tls = scheme == b"https"
    host, port = read_authority(authority.decode("ascii"), 443 if tls else 80)
    return Origin(host, port, tls), b"/" + path
