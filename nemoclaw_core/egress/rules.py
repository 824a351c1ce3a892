"""A network policy, compiled: may this connection be made, may this request be sent?

A decision asks, in this order: is there a rule for the host, for the port, for the executable; does
one of those rules deny the request; does one allow it. Rules for the same host add up: what one
allows is allowed, and what a ``deny_http`` of one denies is denied whatever the others say. Nothing
is looked up, waited for or written down here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemoclaw_hookspecs.egress import EgressVerdict

from nemoclaw_core import globs

from . import addresses, paths, remedies
from .hosts import NotAHost, canonical
from .index import HostIndex
from .requests import Entry, methods_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

    from nemoclaw_hookspecs.egress import Caller, EgressRequest, HttpRequest
    from nemoclaw_hookspecs.policy import NetworkPolicy, NetworkRule

    from .hosts import Host

    Tls = Literal["auto", "terminate", "passthrough"]

REASONS = {
    "malformed-host": "the host can be read in more than one way, or in none",
    "mode": "the policy's network.mode is none",
    "no-rule": "no rule names the host",
    "metadata": "it is a metadata service, and no rule names it exactly",
    "address": "the address is not public, or no server's",
    "port": "the host's rules are for other ports",
    "binary": "the host's rules are for other executables",
    "caller-unknown": "the host's rules are for certain executables, and the caller is not known",
    "host-mismatch": "the request is for another host than the connection",
    "malformed-path": "the path can be read in more than one way, or in none",
    "deny-http": "a rule denies the request",
    "method": "the host's rules allow other methods for the path",
    "path": "the host's rules allow other paths",
}
"""What ``EgressVerdict.rule`` is in a denial, and what it means."""

_TLS: tuple[Tls, ...] = ("terminate", "auto", "passthrough")
"""Several rules for a connection: the first of these that one of them wants."""


class _Rule:
    """One compiled rule."""

    __slots__ = (
        "addresses", "binaries", "denied", "host", "http", "inspect", "name", "origin", "ports",
        "tls",
    )  # fmt: skip

    def __init__(self, rule: NetworkRule) -> None:
        self.host = rule.host
        self.name = rule.name or rule.host
        self.origin = str(rule.origin)
        self.ports = frozenset(rule.ports)
        self.binaries = tuple((each.path, each.sha256) for each in rule.binaries)
        self.http = tuple(Entry(each, deny=False) for each in rule.http)
        self.denied = tuple(Entry(each, deny=True) for each in rule.deny_http)
        self.tls: Tls = rule.tls
        self.inspect = bool(rule.http or rule.deny_http or rule.credential)
        self.addresses = rule.addresses
        addresses.check_ranges(rule.addresses)

    def is_for(self, caller: Caller | None) -> bool:
        """Whether a caller may use the rule. One that is not known may use none for some."""
        if not self.binaries:
            return True
        if caller is None or not caller.executable.startswith("/"):
            return False
        return any(
            (sha256 is None or sha256 == caller.sha256) and globs.matches(path, caller.executable)
            for path, sha256 in self.binaries
        )


class Ruleset:
    """One generation of a network policy. It never changes.

    :param policy: checked, as plugins see it.
    :param generation: what verdicts carry.
    :param name: of the policy, for remedies.
    :raises ValueError: the policy was not checked: a host, a path or a range in it is none.
    """

    def __init__(self, policy: NetworkPolicy, generation: int = 0, name: str = "default") -> None:
        self.generation = generation
        self.name = name
        self._open = policy.mode == "proxy"
        self._ask = self._open and policy.unknown == "ask"
        self._rules = tuple(map(_Rule, policy.allow)) if self._open else ()
        self._index = HostIndex(tuple(rule.host for rule in self._rules))

    @property
    def wants_callers(self) -> bool:
        """Whether any rule is for certain executables, so that callers must be looked up."""
        return any(rule.binaries for rule in self._rules)

    @property
    def wants_digests(self) -> bool:
        """Whether any rule pins an executable by its digest."""
        return any(sha256 for rule in self._rules for _, sha256 in rule.binaries)

    def resolvable(self, name: str) -> bool:
        """Whether a rule, or an operator who is asked, may let the agent connect to a name."""
        try:
            host = canonical(name)
        except NotAHost:
            return False
        if host.packed or not self._open:
            return False
        if self._index.find(host.text, False):
            return True
        return self._ask and host.text not in addresses.METADATA_NAMES

    def judge(self, request: EgressRequest) -> EgressVerdict:
        """The policy's answer to a connection, or to a request inside one.

        Denials carry a code of :data:`REASONS` as their rule. What is allowed is allowed by the
        first rule, in the order of the policy, that does.
        """
        try:
            host = canonical(request.host)
        except NotAHost as error:
            why = f"the host cannot be used: {error}"
            return self._deny(request.host, request, "malformed-host", why)
        known = [self._rules[at] for at in self._index.find(host.text, bool(host.packed))]
        if not known:
            return self._unknown(host, request)
        if host.packed:
            category = addresses.refused(host, (host.text,))
            if category:
                why = f"nothing is served at a {category} address"
                return self._deny(host.text, request, "address", why, known[0])
        here = [rule for rule in known if request.port in rule.ports]
        if not here:
            remedy = remedies.ports(known[0].ports, request.port)
            return self._deny(host.text, request, "port", "", known[0], remedy)
        mine = [rule for rule in here if rule.is_for(request.caller)]
        if not mine:
            return self._not_for(host, request, here[0])
        # Who is not known may be anybody: also one to whom a rule for certain executables denies
        # something.
        denying = mine if request.caller is not None else [r for r in here if r.denied or r in mine]
        if request.http is None:
            return self._allow(host, request, mine, denying, mine[0], "")
        return self._request(host, request, request.http, mine, denying)

    def _request(
        self,
        host: Host,
        request: EgressRequest,
        http: HttpRequest,
        mine: list[_Rule],
        denying: list[_Rule],
    ) -> EgressVerdict:
        if not _same_authority(host, request.port, http):
            return self._deny(host.text, request, "host-mismatch")
        try:
            target = paths.canonical(http.path, http.query)
        except paths.NotAPath as error:
            why = f"the path cannot be used: {error}"
            return self._deny(host.text, request, "malformed-path", why, mine[0])
        methods = methods_of(http.method, http.headers)
        for rule in denying:
            for entry in rule.denied:
                if any(map(entry.takes_method, methods)) and any(
                    map(entry.takes_path, target.readings)
                ):
                    remedy = f"take what covers it out of the rule's deny_http: {entry}"
                    return self._deny(host.text, request, "deny-http", "", rule, remedy)
        first = None
        method_alone = False
        for method in methods:
            for reading in target.readings:
                found = None
                for rule in mine:
                    if not rule.http:
                        found = rule
                        break
                    covering = [entry for entry in rule.http if entry.takes_path(reading)]
                    if any(entry.takes_method(method) for entry in covering):
                        found = rule
                        break
                    method_alone = method_alone or bool(covering)
                if found is None:
                    code = "method" if method_alone else "path"
                    remedy = remedies.request(method, target.path)
                    return self._deny(host.text, request, code, "", mine[0], remedy)
                first = first or found
        return self._allow(host, request, mine, denying, first or mine[0], target.path)

    def _unknown(self, host: Host, request: EgressRequest) -> EgressVerdict:
        if not self._open:
            return self._deny(
                host.text, request, "mode", "", None, 'mode = "proxy", and a rule for the host'
            )
        remedy = remedies.rule(self.name, host.text, request.port)
        if host.packed:
            category = addresses.refused(host)
            if category:
                why = f"the address is {category}, and no rule names it exactly"
                never = addresses.refused(host, (host.text,))
                return self._deny(host.text, request, "address", why, None, "" if never else remedy)
        elif host.text in addresses.METADATA_NAMES:
            return self._deny(host.text, request, "metadata", "", None, remedy)
        if self._ask:
            return EgressVerdict(
                action="hold",
                rule="no-rule",
                reason=REASONS["no-rule"],
                remedy=remedy,
                host=host.text,
                port=request.port,
                generation=self.generation,
            )
        return self._deny(host.text, request, "no-rule", "", None, remedy)

    def _not_for(self, host: Host, request: EgressRequest, rule: _Rule) -> EgressVerdict:
        if request.caller is None:
            return self._deny(host.text, request, "caller-unknown", "", rule)
        remedy = remedies.binary(request.caller.executable)
        return self._deny(host.text, request, "binary", "", rule, remedy)

    def _allow(
        self,
        host: Host,
        request: EgressRequest,
        rules: list[_Rule],
        seeing: list[_Rule],
        by: _Rule,
        path: str,
    ) -> EgressVerdict:
        tls, inspect, owned = by.tls, by.inspect, by.addresses
        if len(seeing) > 1:
            wanted = {rule.tls for rule in rules}
            tls = next(each for each in _TLS if each in wanted)
            inspect = any(rule.inspect for rule in seeing)
            owned = tuple(dict.fromkeys(each for rule in rules for each in rule.addresses))
        if inspect and tls == "passthrough":
            tls = "auto"  # one rule has to see what another would not look at
        return EgressVerdict(
            action="allow",
            rule=by.name,
            origin=by.origin,
            host=host.text,
            port=request.port,
            tls=tls,
            inspect=inspect,
            addresses=(*owned, host.text) if host.packed else owned,
            generation=self.generation,
            path=path,
        )

    def _deny(
        self,
        host: str,
        request: EgressRequest,
        code: str,
        why: str = "",
        rule: _Rule | None = None,
        remedy: str = "",
    ) -> EgressVerdict:
        return EgressVerdict(
            action="deny",
            rule=code,
            reason=why or REASONS[code],
            origin=rule.origin if rule is not None else "",
            remedy=remedy,
            host=host,
            port=request.port,
            generation=self.generation,
        )


def _same_authority(host: Host, port: int, http: HttpRequest) -> bool:
    """Whether the request's own idea of its host (RFC 9112 section 3.2) is the connection's."""
    return all(_names(host, port, value) for value in _authorities(http))


def _authorities(http: HttpRequest) -> Iterable[str]:
    for name, value in http.headers.items():
        if name.lower() in ("host", ":authority"):
            yield value


def _names(host: Host, port: int, authority: str) -> bool:
    if authority == host.text and ":" not in authority:
        return True
    name, colon, tail = authority.rpartition(":")
    if not colon or tail.endswith("]"):
        name, tail = authority, str(port)
    if tail != str(port):
        return False
    try:
        return canonical(name).text == host.text
    except NotAHost:
        return False
