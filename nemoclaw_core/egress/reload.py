"""Put another network policy in force for a running sandbox: whole, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import LauncherError, NemoclawError, UsageError

from ..events.network import policy_reloaded, reload_refused
from ..supervisor.gates import GATES
from .changes import as_data, told
from .generations import Generation
from .written import Written

if TYPE_CHECKING:
    from ..supervisor.gates import Gate
    from .questions import Operator


def reload(
    gate: Gate, name: str, network: object, locked: dict[str, str], by: Operator, cause: str
) -> str:
    """Replace a gate's network policy. In force when this returns.

    Everything that takes time is done before the policy in force is touched.

    :param name: ``FILE:NAME`` of the new policy.
    :param network: the policy, as :meth:`.written.Written.as_data` gives it.
    :param locked: its locked values (``policy.locked``), which must be those of the start.
    :param by: who wants it.
    :param cause: ``command``, ``watch`` or ``signal``.
    :returns: what has changed, for people.
    :raises UsageError: a locked value differs, or the sandbox cannot do what a rule needs;
        everything stays as it was.
    :raises LauncherError: ``network`` is no encoded network policy; likewise.
    :raises NemoclawError: the gate failed; its network is closed.
    """
    before = gate.in_force()
    differing = sorted(
        key
        for key in gate.planned.locked.keys() | locked.keys()
        if gate.planned.locked.get(key) != locked.get(key)
    )
    try:
        if differing:
            raise UsageError(
                f"{name} differs in what was locked at the start: {', '.join(differing)}",
                remedy="change the network rules alone, or stop the sandbox and start it anew",
            )
        written = Written.read(network)
        if cause == "watch" and before.says(written, name):
            # Written twice, or by who has had it put in force already.
            return f"{name} is in force already, as generation {before.number}"
        digest = written.digest(gate.planned.plan_digest)
        after = _compiled(written, before.number + 1, name, digest, before)
        if not gate.planned.authorities:
            _refuse_inspection(name, after)
    except NemoclawError as error:
        reason = error.what if not error.where else f"{error.where}: {error.what}"
        gate.log.append(
            reload_refused(
                gate.context, policy=name, reason=reason, keys=differing, by=by, cause=cause
            )
        )
        raise
    gate.log.append(
        policy_reloaded(
            gate.context,
            policy=(name, digest, after.number),
            changes=as_data(after.changes),
            told=told(after.changes),
            by=by,
            cause=cause,
        )
    )
    try:
        GATES.reload(gate, after)
    except Exception as error:
        kept = gate.in_force() is before
        gate.log.append(
            reload_refused(
                gate.context,
                policy=name,
                reason=f"the gate failed, {'the one before stays' if kept else 'and is closed'}",
                by=by,
                cause=cause,
            )
        )
        if kept and isinstance(error, NemoclawError):
            raise
        raise NemoclawError(
            f"the network of {gate.context.sandbox} is closed: the gate could not take the policy "
            f"({type(error).__name__})",
            remedy="stop the sandbox and start it anew",
        ) from error
    return f"{name} is in force, generation {after.number}: {told(after.changes)}"


def _compiled(
    written: Written, number: int, name: str, digest: str, before: Generation
) -> Generation:
    """:raises LauncherError: it is none."""
    try:
        return Generation(written, number, name, digest, before)
    except ValueError as error:
        raise LauncherError(f"{name} cannot be compiled: {error}") from None


def _refuse_inspection(name: str, after: Generation) -> None:
    """:raises UsageError: a rule needs an authority that the sandbox was not told of."""
    for rule in after.new_rules():
        judged = bool(rule.http or rule.deny_http or rule.credential) and rule.tls != "passthrough"
        if (judged or rule.tls == "terminate") and rule.ports != (80,):
            raise UsageError(
                f"rule {rule.name or rule.host!r} of {name} needs TLS to be inspected, and the "
                "sandbox was started without a certificate authority",
                where=str(rule.origin),
                remedy="stop the sandbox and start it anew",
            )
