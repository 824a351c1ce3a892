"""Put another network policy in force for a running sandbox: whole, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs import NetworkPolicy
from nemoclaw_hookspecs.errors import UsageError

from .. import seal
from ..events.network import policy_reloaded, reload_refused
from ..supervisor.gates import GATES
from .rules import Ruleset

if TYPE_CHECKING:
    from ..supervisor.gates import Gate


def reload(gate: Gate, name: str, network: dict[str, Any], locked: dict[str, str]) -> str:
    """Replace a gate's network policy. In force when this returns.

    :param name: ``FILE:NAME`` of the new policy.
    :param locked: its locked values (``policy.locked``), which must be those of the start.
    :returns: what has changed, for people.
    :raises UsageError: a locked value differs; everything stays as it was.
    :raises LauncherError: ``network`` is no encoded network policy; likewise.
    """
    differing = sorted(
        key
        for key in gate.planned.locked.keys() | locked.keys()
        if gate.planned.locked.get(key) != locked.get(key)
    )
    if differing:
        gate.log.append(reload_refused(gate.context, policy=name, keys=differing))
        raise UsageError(
            f"{name} differs in what was locked at the start: {', '.join(differing)}",
            remedy="change the network rules alone, or stop the sandbox and start it anew",
        )
    after = seal.decode_value(NetworkPolicy, network)
    Ruleset(after)  # Before anything is told: what cannot be compiled changes nothing.
    if not gate.planned.authorities:
        _refuse_inspection(name, after)
    before = seal.decode_value(NetworkPolicy, gate.network)
    added = [rule for rule in after.allow if _bare(rule) not in map(_bare, before.allow)]
    removed = [rule for rule in before.allow if _bare(rule) not in map(_bare, after.allow)]
    changes = [f"+ {rule.name or rule.host}" for rule in added]
    changes += [f"- {rule.name or rule.host}" for rule in removed]
    gate.log.append(policy_reloaded(gate.context, policy=name, changes=changes))
    GATES.reload(gate, network)
    return f"{name} is in force: {', '.join(changes) or 'no rule has changed'}"


def _refuse_inspection(name: str, network: NetworkPolicy) -> None:
    """:raises UsageError: a rule needs an authority that the sandbox was not told of."""
    for rule in network.allow:
        judged = bool(rule.http or rule.deny_http) and rule.tls != "passthrough"
        if (judged or rule.tls == "terminate") and rule.ports != (80,):
            raise UsageError(
                f"rule {rule.name or rule.host!r} of {name} needs TLS to be inspected, and the "
                "sandbox was started without a certificate authority",
                where=str(rule.origin),
                remedy="stop the sandbox and start it anew",
            )


def _bare(rule: object) -> dict[str, Any]:
    """A rule without where it stands."""
    return {key: value for key, value in seal.encode_value(rule).items() if key != "origin"}
