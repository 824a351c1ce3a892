"""Add a rule to a policy file and leave everything else in it as its author wrote it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import tomli
from nemoclaw_hookspecs.errors import UsageError

_USUAL = 443


def add_rule(content: str, policy: str, host: str, port: int, comment: str) -> str:
    """The text of a policy file with a rule more.

    Beside the other rules of the policy where there are some, else behind its table. What comes out
    is the old text with one piece put in, which means the old document with one rule more: anything
    else is given up.

    :param content: a valid policy file.
    :param policy: a name in it.
    :param comment: says where the rule comes from; one line.
    :raises UsageError: there is no place for it.
    """
    rule: dict[str, Any] = {"host": host}
    if port != _USUAL:
        rule["ports"] = [port]
    before = tomli.loads(content)
    wanted = copy.deepcopy(before)
    try:
        wanted["policy"][policy].setdefault("network", {}).setdefault("allow", []).append(rule)
    except (KeyError, AttributeError):
        raise UsageError(f"has no policy {policy!r} that is a table") from None
    for put_in in (_beside, _behind):
        try:
            text = put_in(content, policy, rule, comment)
        except _NoPlace:
            continue
        if _is_insertion(content, text) and _means(text, wanted):
            return text
    raise UsageError(
        "a rule cannot be added without writing parts of the file anew",
        remedy="write it yourself, and `nemoclaw reload` the sandbox:\n"
        + "".join(_lines(policy, rule, comment)),
    )


class _NoPlace(Exception):
    """There is none of the kind that was looked for."""


def _beside(content: str, policy: str, rule: dict[str, Any], comment: str) -> str:
    """As the last of the rules that the policy has, in the way in which they are written."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError
    from tomlkit.items import AoT, Array

    try:
        document = tomlkit.parse(content)
        allow: Any = document["policy"][policy]["network"]["allow"]
        if isinstance(allow, Array):
            entry = tomlkit.inline_table()
            entry.update(rule)
            allow.append(entry)
            return tomlkit.dumps(document)
        if not isinstance(allow, AoT):
            raise _NoPlace
        table = tomlkit.table()
        table.update(rule)
        allow.append(table)
        # The text of the table itself is ours; what counts is where it was put.
        at = _shared(content, tomlkit.dumps(document))
        line = at if at == len(content) else content.rfind("\n", 0, at) + 1
        return _put_in(content, line, policy, rule, comment)
    except (TOMLKitError, KeyError, TypeError, ValueError, AttributeError):
        raise _NoPlace from None


def _behind(content: str, policy: str, rule: dict[str, Any], comment: str) -> str:
    """At the end of the file."""
    return _put_in(content, len(content), policy, rule, comment)


def _put_in(content: str, at: int, policy: str, rule: dict[str, Any], comment: str) -> str:
    end = "\r\n" if "\r\n" in content else "\n"
    before, after = content[:at].splitlines(keepends=True), content[at:]
    while after and before and before[-1].lstrip().startswith("#"):
        after = before.pop() + after  # about what follows
    if before and not before[-1].endswith("\n"):
        before[-1] += end
    if before and before[-1].strip():
        before.append(end)
    gap = end if after.strip() and after.splitlines()[0].strip() else ""
    return "".join((*before, *_lines(policy, rule, comment, end), gap, after))


def _lines(policy: str, rule: dict[str, Any], comment: str, end: str = "\n") -> Iterator[str]:
    from ..egress.remedies import key, string

    yield f"[[policy.{key(policy)}.network.allow]]{end}"
    yield f"host = {string(rule['host'])}  # {comment}{end}"
    if "ports" in rule:
        yield f"ports = {rule['ports']}{end}"


def _is_insertion(before: str, after: str) -> bool:
    """Whether ``after`` is ``before`` with something put in at one place."""
    rest = before[_shared(before, after) :]
    return len(after) > len(before) and after.endswith(rest)


def _shared(first: str, second: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))


def _means(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return tomli.loads(text) == wanted
    except tomli.TOMLDecodeError:
        return False
