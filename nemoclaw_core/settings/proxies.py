"""From the ``[upstream]`` table to what connections are made with."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from nemoclaw_hookspecs.errors import PolicyError

from ..egress.hosts import NotAHost, canonical
from ..egress.upstream import Proxy, Upstream
from ..policy import hosts
from ..policy.problems import Misfit, quoted
from . import files
from .document import PasswordTable, UpstreamTable

ENVIRONMENT = "environment"
_URL = re.compile(r"(?:([^/@]*)@)?(\[[^]@/]+\]|[^:/@]+):([0-9]{1,5})/?", re.ASCII)
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_PASSWORD = "proxy_password"
_VARIABLES = ("https_proxy", "HTTPS_PROXY")


def upstream(
    table: UpstreamTable | None, environment: Mapping[str, str], *, shared: bool = False
) -> Upstream:
    """How servers are reached.

    :param shared: others than the user can read the settings.
    :raises Misfit: a value cannot be used. Its message holds no password.
    """
    if table is None:
        return Upstream()
    direct: list[str] = list(table.no_proxy or ())
    address: str | None = table.proxy
    key = "proxy"
    if address == ENVIRONMENT:
        address = in_environment(environment)
        for text in environment_exceptions(environment):
            if text == "*":
                address = None
            else:
                # An address or a range is itself alone.
                single = "/" in text or ":" in text or text[-1:].isdigit()
                direct += [text] if single else [text, f"**.{text}"]
        shared = False
    proxy = None
    if address is not None:
        proxy = _proxy(address, table.proxy_password, environment, shared=shared)
    elif table.proxy_password is not None and table.proxy is None:
        raise Misfit("there is no proxy that it could be for", at=("upstream", "proxy_password"))
    names: list[str] = []
    ranges: list[str] = []
    for at, text in enumerate(direct):
        where = ("no_proxy", at) if at < len(table.no_proxy or ()) else (key,)
        _sort(text, names, ranges, ("upstream", *where))
    return Upstream(
        proxy=proxy,
        direct_hosts=tuple(names),
        direct_ranges=tuple(ranges),
        authorities=_authorities(table.ca_file),
    )


def in_environment(environment: Mapping[str, str]) -> str | None:
    """The proxy that an environment names for programs that ask it."""
    return next((environment[name] for name in _VARIABLES if environment.get(name)), None)


def environment_exceptions(environment: Mapping[str, str]) -> list[str]:
    """Hosts that an environment excepts, each with all below it, as curl(1) reads them."""
    text = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    found = []
    for entry in text.split(","):
        each = entry.strip()
        if each:
            found.append(each if each == "*" else each.removeprefix("*").lstrip("."))
    return found


def _proxy(
    address: str, password: PasswordTable | None, environment: Mapping[str, str], *, shared: bool
) -> Proxy:
    at = ("upstream", "proxy")
    scheme, slashes, rest = address.partition("://")
    found = _URL.fullmatch(rest) if slashes else None
    if scheme.lower() != "http" or found is None or not 0 < int(found[3]) < 65536:
        raise Misfit(
            "is not the address of an HTTP proxy",
            "write http://HOST:PORT, with USER@ or USER:PASSWORD@ before the host if it asks",
            at=at,
        )
    try:
        host = canonical(found[2]).text
    except NotAHost as error:
        raise Misfit(f"the proxy's host cannot be used: {error}", at=at) from None
    user, colon, secret = (found[1] or "").partition(":")
    if colon and shared:
        raise Misfit(
            "holds a password, and others can read this file",
            "chmod go-r it, or write proxy_password = { from_file = ... }",
            at=at,
        )
    if password is not None:
        if colon or not user:
            what = "proxy names a password already" if colon else "proxy names no user"
            raise Misfit(what, "write proxy = http://USER@HOST:PORT", at=("upstream", _PASSWORD))
        secret = _secret(password, environment)
    authorization = ""
    if user:
        from urllib.parse import unquote

        plain = f"{unquote(user)}:{secret if password is not None else unquote(secret)}"
        authorization = "Basic " + base64.b64encode(plain.encode()).decode()
    return Proxy(host=host, port=int(found[3]), authorization=authorization)


def _secret(table: PasswordTable, environment: Mapping[str, str]) -> str:
    at = ("upstream", _PASSWORD)
    if (table.from_env is None) == (table.from_file is None):
        raise Misfit("a password comes from exactly one place", "from_env or from_file", at=at)
    if table.from_env is not None:
        found = environment.get(table.from_env)
        if not found:
            raise Misfit(f"the variable {table.from_env} is not set", at=(*at, "from_env"))
        return found
    content = _read(str(table.from_file), (*at, "from_file"), secret=True)
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Misfit("the file is not UTF-8 text", at=(*at, "from_file")) from None


def _sort(text: str, names: list[str], ranges: list[str], at: tuple[str | int, ...]) -> None:
    try:
        if "/" in text:
            ranges.append(hosts.network(text))
            return
        host = hosts.host_pattern(text)
    except Misfit as error:
        what = f"{quoted(text)} of NO_PROXY cannot be used" if at[-1] == "proxy" else error.what
        raise Misfit(what, error.remedy, at=at) from None
    (ranges if _is_address(host) else names).append(host)


def _is_address(host: str) -> bool:
    try:
        return canonical(host).is_address
    except NotAHost:  # a pattern
        return False


def _authorities(path: str | None) -> str:
    if path is None:
        return ""
    at = ("upstream", "ca_file")
    found = _read(path, at).decode("ascii", "replace")
    if _CERTIFICATE not in found:
        raise Misfit("the file holds no certificate", "it has to be PEM", at=at)
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except (ssl.SSLError, ValueError):
        raise Misfit("the file holds a certificate that cannot be read", at=at) from None
    return found


def _read(path: str, at: tuple[str | int, ...], *, secret: bool = False) -> bytes:
    try:
        return files.read(path, secret=secret)[0]
    except PolicyError as error:
        raise Misfit(f"{path} {error.what}", error.remedy, at=at) from None
