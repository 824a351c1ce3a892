"""A network policy, compiled: may this connection be made, may this request be sent?

A decision asks, in this order: is there a rule for the host, for the port, for the executable; does
one of those rules deny the request; does one allow it. Rules for the same host add up: what one
allows is allowed, and what a ``deny_http`` of one denies is denied whatever the others say. Nothing
is looked up, waited for or written down here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from nemoclaw_hookspecs.egress import EgressVerdict
from nemoclaw_hookspecs.policy import Origin

from nemoclaw_core import globs

from . import addresses, paths, remedies
from .answers import answer
from .hosts import NotAHost, canonical
from .index import HostIndex
from .reasons import REASONS
from .remembering import Remembering
from .requests import Entry, every_reading, same_authority

if TYPE_CHECKING:
    from typing import Literal

    from nemoclaw_hookspecs.egress import Caller, EgressRequest, HttpRequest
    from nemoclaw_hookspecs.policy import NetworkPolicy, NetworkRule

    from .hosts import Host

    Tls = Literal["auto", "terminate", "passthrough"]

_TLS: tuple[Tls, ...] = ("terminate", "auto", "passthrough")
"""Several rules for a connection: the first of these that one of them wants."""


class Rule:
    """One compiled rule. It never changes."""

    def __init__(self, rule: NetworkRule) -> None:
        self.host = rule.host
        self.name = rule.name or rule.host
        self._place = (rule.origin.file, rule.origin.line, rule.origin.key)
        self.ports = frozenset(rule.ports)
        self.binaries = tuple((each.path, each.sha256) for each in rule.binaries)
        self.http = tuple(Entry(each, deny=False) for each in rule.http)
        self.denied = tuple(Entry(each, deny=True) for each in rule.deny_http)
        self.looks = any(each.looks for each in (*self.http, *self.denied))
        self.reads_query = any(each.reads_query for each in (*self.http, *self.denied))
        self.tls: Tls = rule.tls
        self.inspect = bool(rule.http or rule.deny_http or rule.credential)
        self.addresses = rule.addresses
        self.credential = rule.credential or ""
        addresses.check_ranges(rule.addresses)

    def at(self, file: str, line: int, key: str) -> Rule:
        """The same rule, written elsewhere."""
        other: Rule = object.__new__(Rule)
        other.__dict__ = {**self.__dict__, "_place": (file, line, key)}
        return other

    @property
    def origin(self) -> str:
        """``FILE:LINE KEY``. Made when it is asked for: a new line in a file moves every rule."""
        file, line, key = self._place
        return str(Origin(file=file, line=line, key=key))

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
    :param rules: the policy's, where they were compiled already; then its own are not looked at.
    :raises ValueError: the policy was not checked: a host, a path or a range in it is none.
    """

    def __init__(
        self,
        policy: NetworkPolicy,
        generation: int = 0,
        name: str = "default",
        rules: tuple[Rule, ...] | None = None,
    ) -> None:
        self.generation = generation
        self.name = name
        self._open = policy.mode == "proxy"
        self._ask = self._open and policy.unknown == "ask"
        self.ask_timeout = policy.ask_timeout
        """Seconds that an operator has to answer."""
        compiled = tuple(map(Rule, policy.allow)) if rules is None else rules
        self._rules = compiled if self._open else ()
        self._index = HostIndex(tuple(rule.host for rule in self._rules))
        reads_queries = any(rule.reads_query for rule in self._rules)
        self._remembering = Remembering(self._judge, reads_queries=reads_queries)
        self.wants_bodies = any(rule.looks for rule in self._rules)
        """Whether any rule looks into bodies."""

    @property
    def wants_callers(self) -> bool:
        """Whether any rule is for certain executables, so that callers must be looked up."""
        return any(rule.binaries for rule in self._rules)

    @property
    def asks(self) -> bool:
        """Whether what no rule names is held for an operator."""
        return self._ask

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
        first rule, in the order of the policy, that does. What was asked lately is remembered.
        """
        return self._remembering.judge(request)

    def _judge(self, request: EgressRequest) -> EgressVerdict:
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
        mine: list[Rule],
        denying: list[Rule],
    ) -> EgressVerdict:
        if not same_authority(host, request.port, http):
            return self._deny(host.text, request, "host-mismatch")
        try:
            target = every_reading(http, paths.canonical(http.path, http.query))
        except paths.NotAPath as error:
            why = f"the path cannot be used: {error}"
            return self._deny(host.text, request, "malformed-path", why, mine[0])
        found = answer(http, target, mine, denying)
        if not found.code:
            allowed = self._allow(host, request, mine, denying, found.by, target.path)
            if allowed.credential and not found.alone:
                # Where the server may take it for one that the credential is not for.
                allowed = attrs.evolve(allowed, credential="")
            if found.watch or found.why:
                return attrs.evolve(allowed, watch=found.watch, reason=found.why)
            return allowed
        denied = self._deny(host.text, request, found.code, found.why, found.by, found.remedy)
        return attrs.evolve(denied, needs_body=found.needs_body) if found.needs_body else denied

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

    def _not_for(self, host: Host, request: EgressRequest, rule: Rule) -> EgressVerdict:
        if request.caller is None:
            return self._deny(host.text, request, "caller-unknown", "", rule)
        remedy = remedies.binary(request.caller.executable)
        return self._deny(host.text, request, "binary", "", rule, remedy)

    def _allow(
        self,
        host: Host,
        request: EgressRequest,
        rules: list[Rule],
        seeing: list[Rule],
        by: Rule,
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
            credential=by.credential if path else "",
            path=path,
        )

    def _deny(
        self,
        host: str,
        request: EgressRequest,
        code: str,
        why: str = "",
        rule: Rule | None = None,
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
