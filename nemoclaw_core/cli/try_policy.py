"""``nemoclaw policy try``: what a policy says to URLs. Starts no sandbox, and sends nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any, Literal

import attrs
from nemoclaw_hookspecs import (
    Caller,
    EgressRequest,
    EgressVerdict,
    HttpRequest,
    Policy,
    UpstreamError,
    UsageError,
)

from nemoclaw_core.egress.rules import Ruleset
from nemoclaw_core.events.text import printable

if TYPE_CHECKING:
    import argparse

    from nemoclaw_hookspecs import Policy

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "tls": 443, "tcp": 0}
_HTTP = ("http", "https", "ws", "wss")
_URL = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://)?([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?")
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?")


@attrs.frozen(slots=True, kw_only=True)
class Attempt:
    """A URL, taken apart."""

    url: str
    scheme: str
    host: str
    port: int
    path: str
    query: str


@attrs.frozen(slots=True, kw_only=True)
class Outcome:
    """What the policy says to one URL."""

    url: str
    verdict: EgressVerdict
    addresses: tuple[str, ...] = ()
    note: str = ""


def attempt(url: str) -> Attempt:
    """Take a URL, ``HOST`` or ``HOST:PORT`` apart. What the host is, is for the rules to say.

    :raises UsageError: it is none.
    """
    remedy = "write https://HOST/PATH, http://HOST/PATH, tcp://HOST:PORT or HOST:PORT"
    match = _URL.fullmatch(url)
    if match is None or not match[2]:
        raise UsageError(f"{printable(url)} is not a URL", remedy=remedy)
    scheme = (match[1] or "tls").lower()
    if scheme not in _PORTS:
        raise UsageError(f"{printable(url)}: {scheme} is not a scheme known here", remedy=remedy)
    parts = _AUTHORITY.fullmatch(match[2])
    # What is neither HOST nor HOST:PORT is judged as it stands, and refused.
    host, digits = (parts[1], parts[2]) if parts is not None else (match[2], None)
    port = int(digits) if digits else _PORTS[scheme]
    if not 0 < port < 65536:
        raise UsageError(f"{printable(url)}: which port is meant?", remedy=remedy)
    return Attempt(
        url=url, scheme=scheme, host=host, port=port, path=match[3] or "/", query=match[4] or ""
    )


def judge(
    rules: Ruleset,
    tried: Attempt,
    method: str,
    caller: Caller | None,
    body: bytes | None = None,
    message: bytes | None = None,
) -> EgressVerdict:
    """The connection; if the policy looks into it, the request; and the message on its WebSocket.

    :param body: JSON; ``None``: none is known.
    """
    protocol: Literal["tls", "tcp"] = "tls" if tried.scheme in ("https", "wss", "tls") else "tcp"
    request = EgressRequest(
        sandbox="", host=tried.host, port=tried.port, protocol=protocol, caller=caller
    )
    verdict = rules.judge(request)
    if verdict.action != "allow" or not verdict.inspect or tried.scheme not in _HTTP:
        return verdict
    http = HttpRequest(
        method=method,
        path=tried.path,
        query=tried.query,
        headers={} if body is None else {"content-type": "application/json"},
        body=body,
        websocket=tried.scheme in ("ws", "wss"),
    )
    if http.websocket and message is not None:
        opened = rules.judge(attrs.evolve(request, protocol="http", http=http))
        if not opened.watch:
            return opened
        http = attrs.evolve(http, message=message)
    return rules.judge(attrs.evolve(request, protocol="http", http=http))


def _sent(outcome: Outcome, scheme: str, policy: Policy) -> Outcome:
    """A request whose credential may not be sent as the URL would have it is denied, too."""
    verdict = outcome.verdict
    used = policy.network.credentials.get(verdict.credential)
    if verdict.action != "allow" or used is None or used.plain or scheme in ("https", "wss"):
        return outcome
    denied = attrs.evolve(
        verdict,
        action="deny",
        rule="credential",
        reason=f"the credential {used.name!r} is sent over TLS alone",
        remedy=f"https, or `plain = true` in [credential.{used.name}]",
    )
    return attrs.evolve(outcome, verdict=denied)


def run(options: argparse.Namespace) -> int:
    """Judge every URL. Exit status: 0 when all are allowed, 1 when one is not. With ``--replay``:
    0 when all that was recorded would be decided as it was, and the log is whole."""
    if bool(options.url) == (options.replay is not None):
        raise UsageError(
            "there is nothing to try" if not options.url else "--replay takes no URLs beside it",
            remedy="write URLs, or --replay with a file of events or the name of a sandbox",
        )
    if options.replay is not None:
        from . import replaying

        policy = _policy(options.selector, options.workdir)
        rules = Ruleset(policy.network, name=policy.name)
        name = f"{policy.file}:{policy.name}"
        return replaying.run(options.replay, rules, name, as_json=options.json)
    tries = [attempt(url) for url in options.url]
    policy = _policy(options.selector, options.workdir)
    rules = Ruleset(policy.network, name=policy.name)
    caller = _caller(options.binary, rules) if options.binary else None
    body = _body(options.data) if options.data is not None else None
    message = options.message.encode() if options.message is not None else None
    method = options.method or ("GET" if body is None else "POST")
    if method != method.upper():
        raise UsageError(
            f"--method {printable(method)}: methods are upper case (RFC 9110 section 9.1)",
            remedy=f"write {printable(method.upper())}",
        )
    if message is not None and any(each.scheme not in ("ws", "wss") for each in tries):
        raise UsageError("--message is for ws:// and wss:// URLs", remedy="or use --data")
    if body is not None and any(each.scheme in ("ws", "wss") for each in tries):
        raise UsageError("--data is for http:// and https:// URLs", remedy="or use --message")
    outcomes = []
    for each in tries:
        verdict = judge(rules, each, method, caller, body, message)
        outcomes.append(
            _with_hint(_sent(Outcome(url=each.url, verdict=verdict), each.scheme, policy))
        )
    if options.resolve:
        outcomes = _resolved(outcomes)
    if options.json:
        print(json.dumps([_as_data(each) for each in outcomes], indent=2))
    else:
        for outcome in outcomes:
            print("\n".join(_as_text(outcome)))
    return 0 if all(each.verdict.action == "allow" for each in outcomes) else 1


def _with_hint(outcome: Outcome) -> Outcome:
    verdict, note = outcome.verdict, ""
    if verdict.rule == "caller-unknown":
        note = "name the program with --binary"
    elif verdict.needs_body:
        note = "it hangs on the body: write one with --data"
    elif verdict.watch:
        note = "each message is judged: write one with --message"
    return attrs.evolve(outcome, note=note)


def _body(written: str) -> bytes:
    if not written.startswith("@"):
        return written.encode()
    try:
        with open(written[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{printable(written[1:])} cannot be read: {error.strerror}") from None


def _policy(selector: str, workdir: str | None) -> Policy:
    """The policy, right or not for this host: where the agent may connect does not depend on it."""
    from nemoclaw_core.policy.context import Context
    from nemoclaw_core.policy.locate import locate
    from nemoclaw_core.policy.problems import refuse
    from nemoclaw_core.policy.resolve import examine
    from nemoclaw_core.policy.walk import Observer

    context, observer = Context.here(workdir), Observer()
    policy, problems = examine(locate(selector, context, observer), context, observer)
    wrong = [each for each in problems if not each.depends_on]
    if policy is None or wrong:
        refuse(wrong or problems)
    return policy


def _caller(binary: str, rules: Ruleset) -> Caller:
    """A program as the kernel would name it, once it runs."""
    path, digest = os.path.realpath(binary), ""
    if rules.wants_digests:
        try:
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
        except OSError as error:
            raise UsageError(
                f"{printable(path)} cannot be read: {error.strerror}",
                remedy="a rule of the policy names its executable by digest",
            ) from None
    return Caller(pid=0, executable=path, sha256=digest)


def _resolved(outcomes: list[Outcome]) -> list[Outcome]:
    """The same, after a look at where the names lead now."""
    import asyncio

    from nemoclaw_core.egress.dial import AddressDenied, Dialer

    left_out: list[tuple[str, str]] = []
    dialer = Dialer(left_out=lambda _, address, category: left_out.append((address, category)))

    async def look(outcome: Outcome) -> Outcome:
        if outcome.verdict.action != "allow":
            return outcome
        left_out.clear()
        try:
            found = await dialer.addresses(outcome.verdict)
        except AddressDenied as error:
            verdict = attrs.evolve(
                outcome.verdict,
                action="deny",
                rule="address",
                reason=error.what,
                remedy=error.remedy or "",
            )
            refused = tuple(address for address, _ in error.left_out)
            return attrs.evolve(outcome, verdict=verdict, addresses=refused)
        except UpstreamError as error:
            return attrs.evolve(outcome, note=error.what)
        note = ", ".join(f"{address} ({category})" for address, category in left_out)
        return attrs.evolve(
            outcome,
            addresses=tuple(each.text for each in found),
            note=f"not dialled: {note}" if note else "",
        )

    async def look_at_all() -> list[Outcome]:
        return [await look(each) for each in outcomes]

    try:
        return asyncio.run(look_at_all())
    finally:
        dialer.close()


def _as_text(outcome: Outcome) -> list[str]:
    verdict = outcome.verdict
    lines = [f"{verdict.action:<5}  {printable(outcome.url)}"]
    if verdict.action == "allow":
        lines.append(f'       rule "{printable(verdict.rule)}"')
        how = "each request is judged" if verdict.inspect else "not looked into"
        lines[-1] += f", {how}" if verdict.tls == "auto" else f", TLS {verdict.tls}, {how}"
        if verdict.reason:
            lines.append(f"       {printable(verdict.reason)}")
        if verdict.path and verdict.path not in outcome.url:
            lines.append(f"       sent on as {verdict.path}")
    else:
        lines.append(f"       {verdict.rule}: {printable(verdict.reason)}")
    if verdict.origin:
        lines.append(f"       {printable(verdict.origin)}")
    if outcome.addresses:
        lines.append(f"       leads to {', '.join(map(printable, outcome.addresses))}")
    if outcome.note:
        lines.append(f"       {printable(outcome.note)}")
    if verdict.remedy:
        lines.append("       what would allow it:")
        lines += [f"         {printable(line)}" for line in verdict.remedy.split("\n")]
    return lines


def _as_data(outcome: Outcome) -> dict[str, Any]:
    verdict = outcome.verdict
    return {
        "url": outcome.url,
        "action": verdict.action,
        "rule": verdict.rule,
        "reason": verdict.reason,
        "origin": verdict.origin,
        "remedy": verdict.remedy,
        "host": verdict.host,
        "port": verdict.port,
        "path": verdict.path,
        "tls": verdict.tls,
        "inspect": verdict.inspect,
        "addresses": list(outcome.addresses),
        "note": outcome.note,
    }
