"""The policy file as it is written: one attrs class a table, one field a key.

This is the list of keys. The reader, ``nemoclaw schema``, ``explain`` and the documentation are
driven by it. ``None`` means that the key was not written; no default is filled in here, so that
``extends`` can tell a written value from an absent one.
"""

from __future__ import annotations

# ruff: noqa: RUF009 - `_key` and `_required` are `attrs.field`.
from collections.abc import Mapping
from typing import Literal

import attrs

from .credentials import CredentialTable
from .fields import key as _key
from .fields import raise_found as _raise
from .fields import required as _required
from .patterns import PathPattern
from .problems import Misfit, quoted
from .requests import HttpTable
from .values import (
    Confidence,
    Digest,
    Duration,
    EnvironmentName,
    ExactHost,
    FreeText,
    HostPattern,
    Network,
    OpenFiles,
    PluginName,
    PolicyName,
    Port,
    Processes,
    Redact,
    Size,
    SyscallName,
    Text,
    UserName,
    Waiting,
)

Tmp = Literal["private", "shared", "none"]
Compatibility = Literal["strict", "best-effort"]
Action = Literal["errno", "kill", "log"]
Mode = Literal["proxy", "none"]
Unknown = Literal["deny", "ask"]
Tls = Literal["auto", "terminate", "passthrough"]


@attrs.frozen(slots=True, kw_only=True)
class FilesystemTable:
    """What the agent may read and write. Locked at spawn."""

    read: tuple[PathPattern, ...] | None = _key("Paths to read and execute, with all below them.")
    write: tuple[PathPattern, ...] | None = _key(
        "Paths to read, write, create and remove in, with all below them."
    )
    deny: tuple[PathPattern, ...] | None = _key(
        "Paths out of reach, with all below them; wins over read and write."
    )
    tmp: Tmp | None = _key("/tmp: an empty one of the agent's own, the host's, or none.")
    compatibility: Compatibility | None = _key(
        "strict: refuse to start where the host cannot enforce all of the policy. "
        "best-effort: start, and say each time what is missing."
    )

    def __attrs_post_init__(self) -> None:
        found = [
            Misfit("everything would be writable", "name the directories", at=("write", at))
            for at, path in enumerate(self.write or ())
            if path.anchor == "root" and not path.segments
        ]
        found += [
            Misfit(f"{quoted(denied.text)} is also in write: it cannot be both", at=("deny", at))
            for at, denied in enumerate(self.deny or ())
            if any(denied.same_path(written) for written in self.write or ())
        ]
        _raise(found)


@attrs.frozen(slots=True, kw_only=True)
class EnvironmentTable:
    """The agent's environment variables; nothing else is inherited."""

    pass_: tuple[EnvironmentName, ...] | None = _key("Variables taken from the caller, if set.")
    set: Mapping[EnvironmentName, FreeText] | None = _key("Variables with a value of their own.")


@attrs.frozen(slots=True, kw_only=True)
class ProcessTable:
    """Identity, limits and environment of the agent. Locked at spawn."""

    user: UserName | None = _key(
        'Who the agent runs as: "auto" (the caller; 65532 when the caller is root), a name, '
        '"UID" or "UID:GID". Only root can name another user, and nobody can name root.'
    )
    max_processes: Processes | None = _key("Processes and threads at one time.")
    max_memory: Size | None = _key(
        "Memory of the whole sandbox, or of each process where there is no memory control group; "
        "0 = no limit."
    )
    max_open_files: OpenFiles | None = _key("Open files of each process.")
    timeout: Duration | None = _key('Time until the agent is ended; "0s" = none.')
    environment: EnvironmentTable | None = _key("What the agent finds in its environment.")
    gpu: bool | None = _key("Give access to the GPU's device files.")


@attrs.frozen(slots=True, kw_only=True)
class SyscallsTable:
    """Which system calls the agent may make. Locked at spawn."""

    profile: Text | None = _key("An allow-list of system calls: agent, minimal, gpu.")
    allow: tuple[SyscallName, ...] | None = _key("System calls beyond the profile.")
    deny: tuple[SyscallName, ...] | None = _key("System calls to take from the profile.")
    action: Action | None = _key(
        "What a forbidden call meets: an error, the end of the process, or a log entry alone."
    )

    def __attrs_post_init__(self) -> None:
        _raise(
            [
                Misfit(f"{quoted(name)} is also in allow: it cannot be both", at=("deny", at))
                for at, name in enumerate(self.deny or ())
                if name in (self.allow or ())
            ]
        )


@attrs.frozen(slots=True, kw_only=True)
class BinaryTable:
    """An executable that may use a rule."""

    path: PathPattern = _required("The executable.")
    sha256: Digest | None = _key("Digest that the file must have.")


@attrs.frozen(slots=True, kw_only=True)
class AllowTable:
    """A host that the agent may connect to. Can change while the agent runs."""

    host: HostPattern = _required(
        'Exact, "*.example.com" (one label) or "**.example.com" (one or more).'
    )
    name: Text | None = _key("What the rule is called in events.")
    ports: tuple[Port, ...] | None = _key("Ports; 443 when none is written.")
    binaries: tuple[PathPattern | BinaryTable, ...] | None = _key(
        "Executables that may use the rule; all when none is written."
    )
    http: tuple[HttpTable, ...] | None = _key("Requests that are allowed: each is then judged.")
    deny_http: tuple[HttpTable, ...] | None = _key("Requests that are refused; wins over http.")
    tls: Tls | None = _key("Whether TLS ends here: as the rule needs it, always, or never.")
    addresses: tuple[Network, ...] | None = _key("Private ranges that the name may resolve to.")
    credential: Text | None = _key("Credential that is added outside the sandbox.")

    def __attrs_post_init__(self) -> None:
        found = [
            Misfit("what is denied needs no `?`", "leave it out", at=("deny_http", at, *key))
            for at, each in enumerate(self.deny_http or ())
            for key in each.optional()
        ]
        if self.ports == ():
            found.append(Misfit("no port is no connection", "remove the key: 443", at=("ports",)))
        if self.tls == "passthrough":
            found += [
                Misfit(f"cannot work with tls = 'passthrough': {what}", at=(key,))
                for key, what in (
                    ("http", "requests are not seen"),
                    ("deny_http", "requests are not seen"),
                    ("credential", "nothing can be added"),
                )
                if getattr(self, key)
            ]
        _raise(found)


@attrs.frozen(slots=True, kw_only=True)
class NetworkTable:
    """Where the agent may connect. Can change while the agent runs."""

    mode: Mode | None = _key("proxy: what `allow` lists. none: nothing.")
    unknown: Unknown | None = _key("A host that no rule names: refuse, or hold for an operator.")
    ask_timeout: Waiting | None = _key("How long an operator has to answer; no answer is deny.")
    allow: tuple[AllowTable, ...] | None = _key("What the agent may connect to.")


@attrs.frozen(slots=True, kw_only=True)
class RuleTable:
    """Where prompts with certain findings go; the first rule that matches decides."""

    labels: tuple[Text, ...] = _required("Labels of findings.")
    route: Text = _required('A backend\'s name, "deny" or "ask".')
    min_confidence: Confidence | None = _key("Findings below it do not count.")
    redact: Redact | None = _key("Replace the findings before the call leaves.")

    def __attrs_post_init__(self) -> None:
        if not self.labels:
            raise Misfit("without a label the rule never matches", at=("labels",))


@attrs.frozen(slots=True, kw_only=True)
class OpenTable:
    """A table with keys of a plugin's own, which the plugin validates."""

    type: Text
    options: Mapping[str, object]


@attrs.frozen(slots=True, kw_only=True)
class InferenceTable:
    """Where prompts may go. Can change while the agent runs."""

    default: Text | None = _key('A backend\'s name, or "deny".')
    sensitive: Text | None = _key("Where what is sensitive or cannot be classified goes.")
    hosts: tuple[ExactHost, ...] | None = _key("Real hosts that are treated as inference.local.")
    rules: tuple[RuleTable, ...] | None = _key("Routes by finding.")
    backends: Mapping[Text, OpenTable] | None = _key("Model servers, by name.")

    def __attrs_post_init__(self) -> None:
        _raise(
            [
                Misfit(f"{quoted(name)} is a route, not a backend's name", at=("backends", name))
                for name in self.backends or ()
                if name in ("deny", "ask")
            ]
        )


@attrs.frozen(slots=True, kw_only=True)
class PolicyTable:
    """One named policy."""

    extends: tuple[PolicyName, ...] | None = _key(
        "Other policies that this one builds on, of this file or of those that ship: "
        "lists add, scalars override, tables merge."
    )
    filesystem: FilesystemTable | None = _key("What the agent may read and write.")
    process: ProcessTable | None = _key("Identity, limits and environment.")
    syscalls: SyscallsTable | None = _key("Which system calls the agent may make.")
    network: NetworkTable | None = _key("Where the agent may connect.")
    inference: InferenceTable | None = _key("Where prompts may go.")


@attrs.frozen(slots=True, kw_only=True)
class PluginsTable:
    """Which plugins are loaded, which must hold, and each plugin's own table."""

    enable: tuple[PluginName, ...] | None = _key("Plugins to load; nothing else is loaded.")
    required: tuple[PluginName, ...] | None = _key(
        "Plugins without which no agent starts. Adds to those that nemoclaw itself requires."
    )
    options: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict)


@attrs.frozen(slots=True, kw_only=True)
class Document:
    """One policy file."""

    policy: Mapping[str, PolicyTable]
    credential: Mapping[str, CredentialTable]
    plugins: PluginsTable | None
