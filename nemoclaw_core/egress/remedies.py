"""What a policy would have to say to allow what it denies: lines of TOML, for people and agents.

They tell of the request alone and never of the policy's other content.
"""

from __future__ import annotations

_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
_LONGEST = 512


def rule(policy: str, host: str, port: int) -> str:
    """A new rule for a host."""
    lines = [f"[[policy.{key(policy)}.network.allow]]", f"host = {string(host)}"]
    if port != 443:
        lines.append(f"ports = [{port}]")
    return "\n".join(lines)


def ports(present: frozenset[int], port: int) -> str:
    """Another port of a rule."""
    return f"ports = [{', '.join(map(str, sorted({*present, port})))}]"


def binary(executable: str) -> str:
    """Another executable of a rule."""
    return f"binaries = [{string(executable)}], beside those that the rule names"


def request(method: str, path: str, more: str = "") -> str:
    """Another entry in a rule's ``http``.

    :param more: what else has to be in it.
    """
    entry = f"methods = [{string(method)}], path = {string(path)}"
    if more:
        entry = f"{entry}, {more}"
    return f"http = [{{ {entry} }}], beside those that the rule names"


def call(method: str, tool: str) -> str:
    """A call of JSON-RPC."""
    named = f", tool = {string(tool)}" if tool and method == "tools/call" else ""
    return f"rpc = [{{ method = {string(method)}{named} }}]"


def operation(kind: str, fields: tuple[str, ...]) -> str:
    """An operation of GraphQL."""
    names = ", ".join(map(string, fields))
    return f"graphql = [{{ operation = {string(kind)}, fields = [{names}] }}]"


def addresses(found: tuple[str, ...]) -> str:
    """Addresses that a name may lead to."""
    return f"addresses = [{', '.join(map(string, found))}]"


def string(text: str) -> str:
    """A TOML basic string (https://toml.io/en/v1.0.0#string)."""
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return f'"{"".join(map(_character, text))}"'


def _character(each: str) -> str:
    if each in '"\\':
        return f"\\{each}"
    if each in _SHORT:
        return _SHORT[each]
    if each.isprintable():
        return each
    number = ord(each)
    if 0xD800 <= number < 0xE000:
        return "\ufffd"  # TOML cannot say it
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def key(text: str) -> str:
    plain = text.replace("-", "").replace("_", "")
    return text if plain.isascii() and plain.isalnum() else string(text)
