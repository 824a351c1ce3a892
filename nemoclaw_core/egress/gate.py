"""What the core offers to a network service: judge by the policy, ask the plugins, log, connect.

Runs in the gate thread (see :mod:`nemoclaw_core.supervisor.gates`).
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import attrs
from nemoclaw_hookspecs import (
    CredentialPolicy,
    EgressRequest,
    EgressVerdict,
    HttpRequest,
    OutgoingRequest,
)
from nemoclaw_hookspecs.errors import EgressDenied, EventLogError, UpstreamError

from .. import seal
from ..entries import load_entry
from ..events.drafts import Drafts
from ..events.network import egress_held, egress_judged
from .asking import Asking
from .authorizing import Authorizer, answered
from .dial import Dialer
from .questions import POLICY
from .upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from typing import Any

    from nemoclaw_hookspecs import NetworkService

    from ..credentials.broker import Broker
    from ..credentials.oauth2 import Tokens
    from ..events.record import Record
    from ..supervisor.gates import Gate
    from .generations import Generation
    from .questions import Answer, Question


class Egress:
    """One sandbox's policy of the network, in force now. See ``nemoclaw_hookspecs.Egress``."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.asking = Asking(gate.context.sandbox, lambda question: gate.tell(question), self._held)
        self._authorizer = Authorizer(
            gate.planned.judges(),
            self.asking,
            self.judge,
            self._logged,
            lambda: self._rules.ask_timeout,
        )
        self._drafts = Drafts(gate.context)
        self._told: set[str] = set()
        self._upstream: Upstream = gate.planned.upstream or Upstream()
        self._dialer = Dialer(left_out=self._left_out, upstream=self._upstream)
        self._broker: Broker | None = None
        self._tokens: Tokens | None = None
        self.replace(gate.in_force())

    @property
    def sandbox(self) -> str:
        """The sandbox's name."""
        return self._gate.context.sandbox

    @property
    def generation(self) -> int:
        """Of the policy in force."""
        return self._force.number

    @property
    def init(self) -> int:
        """Process id of the sandbox's init."""
        return self._gate.init

    @property
    def authorities(self) -> str:
        """PEM of authorities that servers may be signed by, besides the system's."""
        return self._upstream.authorities

    def replace(self, generation: Generation) -> None:
        """Put another policy in force."""
        broker = self._broker_of(generation)
        self._force, self._rules, self._broker = generation, generation.rules, broker
        self.asking.look_again(self.judge)

    def changed(self, host: str) -> bool:
        """Whether the last reload may have changed the answer for a host."""
        return self._force.changes_for(host)

    @property
    def wants_caller(self) -> bool:
        """Whether a rule in force is for certain executables, or an operator wants to know."""
        return self._rules.wants_callers or self._rules.asks

    @property
    def wants_digest(self) -> bool:
        """Whether one of them is told by its digest."""
        return self._rules.wants_digests

    @property
    def wants_bodies(self) -> bool:
        """Whether a rule in force, or one's credential, needs to see bodies."""
        broker = self._broker
        return self._rules.wants_bodies or (broker is not None and broker.wants_bodies)

    def close(self) -> None:
        """The sandbox is gone: look nothing up any more."""
        self._dialer.close()

    def resolvable(self, name: str) -> bool:
        """Whether a rule lets the agent connect to a name, on whatever port."""
        return self._rules.resolvable(name)

    def judge(self, request: EgressRequest) -> EgressVerdict:
        """The policy's own answer, with what an operator has said where it would hold."""
        verdict = self._rules.judge(request)
        if verdict.action == "hold":
            answer = self.asking.answered(POLICY, verdict, request)
            if answer is not None:
                verdict = answered(verdict, answer)
        return verdict if self._broker is None else self._broker.narrowed(request, verdict)

    def authorize(self, request: EgressRequest) -> Coroutine[Any, Any, EgressVerdict]:
        """The policy's answer, then every plugin's, then an operator's where one of them holds it;
        then one event. A log that fails denies."""
        return self._authorizer.authorize(request)

    async def dial(self, verdict: EgressVerdict) -> socket.socket:
        """Connect to what a verdict allows."""
        try:
            return await self._dialer.connect(verdict)
        except EgressDenied as error:
            request = EgressRequest(
                sandbox=self.sandbox, host=verdict.host, port=verdict.port, protocol="tcp"
            )
            self.denied(request, "address", error.what)
            raise
        except UpstreamError as error:
            # What its user alone can mend, and the agent is not told: once, not each time.
            if error.remedy and error.remedy not in self._told:
                self._told.add(error.remedy)
                sys.stderr.write(f"nemoclaw: {self.sandbox}: {error}\n")
            raise

    async def add_credential(
        self, verdict: EgressVerdict, request: OutgoingRequest
    ) -> OutgoingRequest:
        """The request with the credential of a verdict in it."""
        from ..credentials.broker import REFUSED, Unusable

        try:
            if self._broker is None:
                raise Unusable(f"there is no credential {verdict.credential!r} any more")
            sent = await self._broker.add(verdict, request)
            if verdict.generation != self.generation:  # a token was waited for
                raise Unusable("the policy has changed meanwhile; ask again")
            return sent
        except Unusable as error:
            http = HttpRequest(method=request.method, path=verdict.path)
            refused = EgressRequest(
                sandbox=self.sandbox,
                host=verdict.host,
                port=verdict.port,
                protocol="http",
                http=http,
            )
            self.denied(refused, REFUSED, error.detail)
            raise EgressDenied(error.what, where=verdict.origin or None) from None

    def _broker_of(self, generation: Generation) -> Broker | None:
        encoded = generation.settings.get("credentials") or {}
        # What agents have of earlier generations stays known.
        if (
            not encoded
            and self._broker is None
            and not self._gate.planned.network.get("credentials")
        ):
            return None
        from ..credentials.broker import Broker
        from ..credentials.oauth2 import Tokens

        if self._tokens is None:
            self._tokens = Tokens(self._dialer.connect, self._upstream.authorities)
        credentials = {
            name: seal.decode_value(CredentialPolicy, each) for name, each in encoded.items()
        }
        return Broker(self._gate.planned.vault, encoded, credentials, self._tokens)

    def denied(self, request: EgressRequest, rule: str, reason: str) -> None:
        """Log what the service itself has refused."""
        refused = EgressVerdict(
            action="deny",
            rule=rule,
            reason=reason,
            host=request.host,
            port=request.port,
            generation=self.generation,
        )
        self._logged(request, refused)

    def _left_out(self, verdict: EgressVerdict, address: str, category: str) -> None:
        request = EgressRequest(
            sandbox=self.sandbox, host=verdict.host, port=verdict.port, protocol="tcp"
        )
        self.denied(request, "address", f"{verdict.host} also leads to {address}: {category}")

    def _findings(self, request: EgressRequest, verdict: EgressVerdict) -> list[Record]:
        from ..events.credentials import credential_elsewhere

        found = self._broker.misplaced(request, verdict) if self._broker is not None else ()
        return [
            credential_elsewhere(self._gate.context, request, credential=name, place=place)
            for name, place in found
        ]

    def _held(self, request: EgressRequest, verdict: EgressVerdict, question: Question) -> None:
        self._gate.log.append(egress_held(self._gate.context, request, verdict, question))

    def _logged(
        self, request: EgressRequest, verdict: EgressVerdict, answer: Answer | None = None
    ) -> EgressVerdict:
        try:
            if answer is None and verdict.action == "allow":
                self._gate.log.append(self._drafts.allowed(request, verdict))
                return verdict
            records = [egress_judged(self._gate.context, request, verdict, answer)]
            if verdict.rule == "credential-elsewhere":
                records += self._findings(request, verdict)
            self._gate.log.append(*records)
        except EventLogError as error:
            sys.stderr.write(f"nemoclaw: {error}\n")
            return attrs.evolve(
                verdict, action="deny", rule="event-log", reason="the event log cannot be written"
            )
        return verdict


def open_sockets(numbers: Mapping[str, int]) -> dict[str, socket.socket]:
    """Socket objects, which own their descriptors from now on."""
    found = {name: socket.socket(fileno=number) for name, number in numbers.items()}
    for each in found.values():
        each.setblocking(False)
    return found


def open_gate(
    gate: Gate, sockets: Mapping[str, socket.socket]
) -> tuple[Egress, list[NetworkService]]:
    """Load the services of a sandbox's plan, and hand them its sockets, which stay the gate's.

    :raises PluginError: a service cannot be loaded.
    """
    egress = Egress(gate)
    services = []
    for service in gate.planned.plan["services"]:
        make = load_entry(service["plugin"], service["entry"])
        authority = gate.planned.authorities.get(service["plugin"])
        services.append(make(egress, sockets, authority=authority))
    return egress, services
