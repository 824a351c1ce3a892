"""What the core offers to a network service: judge by the policy, ask the plugins, log, connect.

Runs in the gate thread (see :mod:`nemoclaw_core.supervisor.gates`).
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import sys
from typing import TYPE_CHECKING, Any

import attrs
from nemoclaw_hookspecs import EgressDecision, EgressRequest, EgressVerdict, NetworkPolicy
from nemoclaw_hookspecs.errors import EgressDenied, EventLogError, PluginError

from .. import seal
from ..entries import load_entry
from ..events.network import egress_judged
from .dial import Dialer
from .rules import Ruleset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nemoclaw_hookspecs import NetworkService

    from ..supervisor.gates import Gate

_ANSWER = 10.0
"""Seconds that a plugin may take to judge a request; no answer in time counts as deny."""


class Egress:
    """One sandbox's policy of the network, in force now. See ``nemoclaw_hookspecs.Egress``."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._generation = 0
        self._judges = gate.planned.judges()
        self._dialer = Dialer(left_out=self._left_out)
        self.replace(gate.network)

    @property
    def sandbox(self) -> str:
        """The sandbox's name."""
        return self._gate.context.sandbox

    @property
    def generation(self) -> int:
        """Of the policy in force."""
        return self._generation

    @property
    def init(self) -> int:
        """Process id of the sandbox's init."""
        return self._gate.init

    def replace(self, network: Mapping[str, Any]) -> None:
        """Put another policy in force: whole, or not at all.

        :raises LauncherError: it is none.
        """
        policy = seal.decode_value(NetworkPolicy, network)
        name = self._gate.planned.plan["policy"].rpartition(":")[2]
        rules = Ruleset(policy, self._generation + 1, name)
        self._rules, self._generation = rules, self._generation + 1

    @property
    def wants_caller(self) -> bool:
        """Whether a rule in force is for certain executables."""
        return self._rules.wants_callers

    @property
    def wants_digest(self) -> bool:
        """Whether one of them is told by its digest."""
        return self._rules.wants_digests

    def close(self) -> None:
        """The sandbox is gone: look nothing up any more."""
        self._dialer.close()

    def resolvable(self, name: str) -> bool:
        """Whether a rule lets the agent connect to a name, on whatever port."""
        return self._rules.resolvable(name)

    def judge(self, request: EgressRequest) -> EgressVerdict:
        """The policy's own answer."""
        return self._rules.judge(request)

    async def authorize(self, request: EgressRequest) -> EgressVerdict:
        """The policy's answer, then every plugin's, then one event. A log that fails denies."""
        verdict = self.judge(request)
        if verdict.action == "allow":
            for plugin, ask in self._judges:
                verdict = _narrowed(verdict, plugin, await _asked(plugin, ask, request))
                if verdict.action != "allow":
                    break
        if verdict.action == "hold":
            # Nobody is there to be asked yet.
            verdict = attrs.evolve(verdict, action="deny", reason="no operator answers")
        return self._logged(request, verdict)

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

    def denied(self, request: EgressRequest, rule: str, reason: str) -> None:
        """Log what the service itself has refused."""
        refused = EgressVerdict(
            action="deny",
            rule=rule,
            reason=reason,
            host=request.host,
            port=request.port,
            generation=self._generation,
        )
        self._logged(request, refused)

    def _left_out(self, verdict: EgressVerdict, address: str, category: str) -> None:
        request = EgressRequest(
            sandbox=self.sandbox, host=verdict.host, port=verdict.port, protocol="tcp"
        )
        self.denied(request, "address", f"{verdict.host} also leads to {address}: {category}")

    def _logged(self, request: EgressRequest, verdict: EgressVerdict) -> EgressVerdict:
        try:
            self._gate.log.append(egress_judged(self._gate.context, request, verdict))
        except EventLogError as error:
            sys.stderr.write(f"nemoclaw: {error}\n")
            return attrs.evolve(
                verdict, action="deny", rule="event-log", reason="the event log cannot be written"
            )
        return verdict


async def _asked(
    plugin: str, ask: Callable[[EgressRequest], Any], request: EgressRequest
) -> EgressDecision | None:
    """A plugin's decision; a deny in its place when it fails or does not answer."""
    try:
        outcome = ask(request)
        if outcome is None:
            raise PluginError(f"plugin {plugin!r} does not judge any more", plugin=plugin)
        if outcome.error is not None:
            raise outcome.error
        answer = outcome.value
        if inspect.isawaitable(answer):
            answer = await asyncio.wait_for(answer, _ANSWER)
        if answer is not None and not isinstance(answer, EgressDecision):
            raise PluginError(f"plugin {plugin!r} gave no decision", plugin=plugin)
        return answer
    except Exception as error:  # whatever a plugin raises is a deny
        reason = f"plugin {plugin!r} failed: {type(error).__name__}"
        return EgressDecision(action="deny", rule=plugin, reason=reason)


def _narrowed(
    verdict: EgressVerdict, plugin: str, decision: EgressDecision | None
) -> EgressVerdict:
    if decision is None or decision.action == "allow":
        return verdict
    rule = f"{plugin}: {decision.rule}"
    return attrs.evolve(verdict, action=decision.action, rule=rule, reason=decision.reason)


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
