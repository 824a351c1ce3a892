"""Which texts are host patterns. One strict grammar, before anything is matched.

The names follow RFC 1123 section 2.1 and RFC 952, with the underscore that real names have.
Whatever another parser could read as something else (``127.1``, ``0x7f000001``, a port, a
scheme, a NUL) is refused here, so that what is matched is what is dialled.
"""

from __future__ import annotations

import re

from nemoclaw_core.globs import is_pattern

from .problems import Misfit, quoted

_LABEL = re.compile(r"[a-z0-9_*](?:[a-z0-9_*-]{0,61}[a-z0-9_*])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


def host_pattern(text: str) -> str:
    """A host in its one spelling: lower case; an IPv6 address without brackets, compressed.

    Accepts a name, ``*`` for one label or a part of one, ``**`` as the first label, an IPv4
    address in four decimal parts, or an IPv6 address with or without brackets.

    :raises Misfit: anything else.
    """
    if not text:
        raise Misfit("a host cannot be empty")
    if not text.isascii():
        raise Misfit(f"{quoted(text)} is not ASCII", "write the name in its xn-- form")
    lowered = text.lower()
    if "://" in text:
        raise Misfit(f"{quoted(text)} is a URL, not a host", "leave out the scheme and the path")
    if "/" in text:
        raise Misfit(f"{quoted(text)} holds a path", "write the host alone; paths go in `http`")
    if lowered.startswith("[") or lowered.count(":") > 1:
        return _ipv6(lowered, text)
    if ":" in text:
        raise Misfit(f"{quoted(text)} holds a port", "ports go in `ports`")
    if lowered.endswith("."):
        raise Misfit(f"{quoted(text)} ends in a dot", "leave the last dot out")
    if len(lowered) > 253:
        raise Misfit("a host name has at most 253 characters")
    labels = lowered.split(".")
    for at, label in enumerate(labels):
        if "**" in label and (label != "**" or at > 0):
            raise Misfit(f"{quoted(text)}: `**` can only be the whole first label")
        if not _LABEL.fullmatch(label):
            raise Misfit(f"{quoted(text)} is not a host: {quoted(label)} is not a label")
    # A name that ends in a number is read as an IPv4 address by resolvers (inet_aton(3)).
    if _NUMBER.fullmatch(labels[-1]) and not _is_ipv4(labels):
        raise Misfit(f"{quoted(text)} is not an IPv4 address in four decimal parts")
    return lowered


def exact_host(text: str) -> str:
    """A host without wildcards.

    :raises Misfit: it is not a host, or a pattern.
    """
    host = host_pattern(text)
    if is_pattern(host):
        raise Misfit(f"{quoted(text)} is a pattern", "name each host")
    return host


def network(text: str) -> str:
    """An address or a CIDR range, in its one spelling.

    :raises Misfit: it is neither.
    """
    import ipaddress

    try:
        found = ipaddress.ip_network(text)
    except ValueError:
        raise Misfit(
            f"{quoted(text)} is not an address or a range of addresses",
            'for instance "10.0.0.0/8"; the bits behind the prefix are 0',
        ) from None
    return str(found)


def _is_ipv4(labels: list[str]) -> bool:
    return len(labels) == 4 and all(
        each.isdecimal() and (each == "0" or each[0] != "0") and len(each) <= 3 and int(each) < 256
        for each in labels
    )


def _ipv6(lowered: str, text: str) -> str:
    import ipaddress

    bracketed = lowered.startswith("[")
    if bracketed and not lowered.endswith("]"):
        raise Misfit(f"{quoted(text)} is not an IPv6 address", "ports go in `ports`")
    try:
        address = ipaddress.IPv6Address(lowered[1:-1] if bracketed else lowered)
    except ValueError:
        raise Misfit(f"{quoted(text)} is not an IPv6 address") from None
    if address.scope_id is not None:
        raise Misfit(f"{quoted(text)} names an interface", "leave out what follows the %")
    return address.compressed
