"""The kinds of single values in a policy file: what each accepts, and its JSON Schema.

Each kind has a type name of its own, so that a document class says what it holds, and the reader
and ``nemoclaw schema`` are driven by the same list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NewType

import attrs

from . import hosts, quantities
from .patterns import PathPattern, path_pattern
from .problems import Misfit, quoted, shown_kind

Text = NewType("Text", str)
FreeText = NewType("FreeText", str)
PolicyName = NewType("PolicyName", str)
PluginName = NewType("PluginName", str)
EnvironmentName = NewType("EnvironmentName", str)
UserName = NewType("UserName", str)
SyscallName = NewType("SyscallName", str)
HostPattern = NewType("HostPattern", str)
ExactHost = NewType("ExactHost", str)
Network = NewType("Network", str)
HttpMethod = NewType("HttpMethod", str)
HttpPath = NewType("HttpPath", str)
Glob = NewType("Glob", str)
GlobKey = NewType("GlobKey", str)
Digest = NewType("Digest", str)
Size = NewType("Size", int)
Processes = NewType("Processes", int)
OpenFiles = NewType("OpenFiles", int)
Port = NewType("Port", int)
Duration = NewType("Duration", float)
Waiting = NewType("Waiting", float)
Confidence = NewType("Confidence", float)
Redact = NewType("Redact", object)

Schema = dict[str, Any]


@attrs.frozen(slots=True)
class Kind:
    """How a value of one type is read, and what a JSON Schema says about it."""

    read: Callable[[object], Any]
    schema: Schema


def string(value: object) -> str:
    """A TOML string; ``1`` is not quietly turned into ``"1"``."""
    if not isinstance(value, str):
        raise Misfit(f"is {shown_kind(value)}, not a string")
    return value


def text(value: object) -> str:
    """A string that is not empty and that C programs see whole."""
    found = string(value)
    if not found:
        raise Misfit("cannot be empty")
    return free_text(found)


def free_text(value: object) -> str:
    """A string, also empty, without NUL."""
    found = string(value)
    if "\0" in found:
        raise Misfit("holds a NUL byte")
    return found


def boolean(value: object) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise Misfit(f"is {shown_kind(value)}, not true or false")
    return value


def _shape(pattern: str, what: str, remedy: str) -> Kind:
    compiled = re.compile(pattern, re.ASCII)

    def read(value: object) -> str:
        found = string(value)
        if not compiled.fullmatch(found):
            raise Misfit(f"{quoted(found)} is not {what}", remedy)
        return found

    return Kind(read, {"type": "string", "pattern": f"^(?:{pattern})$"})


def _whole(least: int, most: int, what: str) -> Kind:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Misfit(f"is {shown_kind(value)}, not an integer")
        if not least <= value <= most:
            raise Misfit(f"{what} is from {least} to {most}")
        return value

    return Kind(read, {"type": "integer", "minimum": least, "maximum": most})


def _memory(value: object) -> int:
    amount = quantities.size(value)
    if 0 < amount < 1 << 20:
        raise Misfit("no program runs in less than 1MiB", 'is the unit missing? "4GiB"')
    return amount


def _waiting(value: object) -> float:
    seconds = quantities.duration(value)
    if not 0 < seconds <= 86400:
        raise Misfit(
            "is no time to wait for a person: it is more than 0s, and at most 1d",
            'to ask nobody, write unknown = "deny"',
        )
    return seconds


def _confidence(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Misfit(f"is {shown_kind(value)}, not a number")
    if not 0 <= value <= 1:
        raise Misfit("a confidence is from 0 to 1")
    return float(value)


def _redact(value: object) -> object:
    if value != "irreversible" and not isinstance(value, bool):
        raise Misfit('is not true, false or "irreversible"')
    return value


def _host(value: object) -> str:
    return hosts.host_pattern(string(value))


def _exact_host(value: object) -> str:
    return hosts.exact_host(string(value))


def _network(value: object) -> str:
    return hosts.network(string(value))


def _path(value: object) -> PathPattern:
    return path_pattern(string(value))


def _http_path(value: object) -> str:
    found = text(value)
    if not found.startswith("/"):
        raise Misfit(f"{quoted(found)} does not begin with a slash")
    segments = found.split("/")
    if ".." in segments or "." in segments:
        raise Misfit(f"{quoted(found)} holds a `.` or `..` segment")
    for mark in "?#\\":
        if mark in found:
            raise Misfit(f"{quoted(found)} holds {mark}", "the path alone is matched")
    if any("**" in each and each != "**" for each in segments):
        raise Misfit(f"{quoted(found)}: `**` must stand alone between slashes")
    return found


_DURATION: Schema = {"type": "string", "pattern": "^[0-9]+(?:\\.[0-9]+)? ?(?:ms|s|m|h|d)$"}


def _glob(value: object) -> str:
    found = free_text(value)
    if any("**" in each and each != "**" for each in found.split("/")):
        raise Misfit(f"{quoted(found)}: `**` must stand alone between slashes")
    return found


def _glob_key(value: object) -> str:
    return _glob(text(value).removesuffix("?")) + ("?" if text(value).endswith("?") else "")


_TEXT: Schema = {"type": "string", "minLength": 1, "pattern": "^[^\\u0000]+$"}

KINDS: dict[Any, Kind] = {
    str: Kind(string, {"type": "string"}),
    bool: Kind(boolean, {"type": "boolean"}),
    Text: Kind(text, _TEXT),
    FreeText: Kind(free_text, {"type": "string", "pattern": "^[^\\u0000]*$"}),
    PathPattern: Kind(_path, _TEXT),
    PolicyName: _shape(
        r"(?!.*\.toml$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
        "a policy's name",
        "letters, digits, `.`, `_` and `-`; it begins with a letter or digit",
    ),
    PluginName: _shape(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a plugin's name", "see `nemoclaw plugins`"
    ),
    EnvironmentName: _shape(
        r"[A-Za-z_][A-Za-z0-9_]*",
        "the name of an environment variable",
        "letters, digits and `_`, without a value",
    ),
    UserName: _shape(
        r"[a-z_][a-z0-9_.-]{0,31}\$?|[0-9]{1,10}(?::[0-9]{1,10})?",
        "a user",
        'write "auto", a name, "UID" or "UID:GID"',
    ),
    SyscallName: _shape(
        r"[a-z_][a-z0-9_]{0,63}", "the name of a system call", "as in syscalls(2): `openat`"
    ),
    HostPattern: Kind(_host, {"type": "string", "minLength": 1, "maxLength": 255}),
    ExactHost: Kind(_exact_host, {"type": "string", "pattern": "^[^*]+$", "maxLength": 255}),
    Network: Kind(_network, {"type": "string", "pattern": "^[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?$"}),
    HttpMethod: _shape(r"[A-Z][A-Z-]{0,31}|\*", "an HTTP method", "upper case, or `*` for all"),
    HttpPath: Kind(_http_path, {"type": "string", "pattern": "^/[^\\u0000?#\\\\]*$"}),
    Glob: Kind(_glob, {"type": "string", "pattern": "^[^\\u0000]*$"}),
    GlobKey: Kind(_glob_key, _TEXT),
    Digest: _shape(r"[0-9a-f]{64}", "a SHA-256 digest", "64 hexadecimal digits, lower case"),
    Size: Kind(
        _memory,
        {
            "oneOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": "^[0-9]{1,20} ?(?:B|KiB|MiB|GiB|TiB)?$"},
            ]
        },
    ),
    # Linux counts threads here. 4194304 is PID_MAX_LIMIT.
    Processes: _whole(1, 4_194_304, "the number of processes"),
    # The dynamic linker alone needs a few; 1048576 is the default of fs.nr_open (proc(5)).
    OpenFiles: _whole(16, 1_048_576, "the number of open files"),
    Port: _whole(1, 65535, "a port"),
    Duration: Kind(quantities.duration, _DURATION),
    Waiting: Kind(_waiting, _DURATION),
    Confidence: Kind(_confidence, {"type": "number", "minimum": 0, "maximum": 1}),
    Redact: Kind(_redact, {"enum": [True, False, "irreversible"]}),
}
