"""The policy, as plugins see it: validated, merged, with every path resolved.

The core reads TOML, applies ``extends``, fills variables in, resolves each path once, and hands
these frozen values to the hooks. A plugin never parses policy and never looks at the file system.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

Access = Literal["read", "write", "deny"]
PathKind = Literal["directory", "file", "device", "socket", "missing"]


@attrs.frozen(slots=True, kw_only=True)
class Origin:
    """Where a value was written: what errors, dry runs and events point at."""

    file: str
    line: int
    key: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.key}" if self.line else f"{self.file} {self.key}"


@attrs.frozen(slots=True, kw_only=True)
class PathRule:
    """One resolved path and what the agent may do below it.

    The most specific ``read`` or ``write`` rule decides for a path (so ``read`` inside ``write``
    is a read-only island); a ``deny`` rule at or above it always wins.
    """

    path: str
    """Absolute, normal, without symbolic links."""
    access: Access
    kind: PathKind
    """What was there when the policy was resolved. ``missing`` only with ``deny``."""
    uid: int
    """Owner on the host; -1 when missing."""
    gid: int
    origin: Origin
    fallback: str = ""
    """Only with ``missing``: what keeps the path harmless where the agent can make it, in words
    that follow "the agent can make it:". Then a host that cannot hold the path may leave the denial
    out, with a gap. Empty: nothing else does, and the denial is never left out."""


@attrs.frozen(slots=True, kw_only=True)
class Link:
    """A symbolic link that the policy names, or passes through, and its target text."""

    path: str
    target: str
    origin: Origin


@attrs.frozen(slots=True, kw_only=True)
class FilesystemPolicy:
    """What the agent may read and write. Locked at spawn."""

    rules: tuple[PathRule, ...] = ()
    links: tuple[Link, ...] = ()
    tmp: Literal["private", "shared", "none"] = "private"
    workdir: str
    home: str
    origins: Mapping[str, Origin] = attrs.field(factory=dict)
    """Where the keys of the table that were written down stand: ``tmp``, ``deny``, ``deny[0]``."""
    contents: Mapping[str, Mapping[str, PathKind]] = attrs.field(factory=dict)
    """What lies beside denied and read-only paths, for hosts that can only grant a tree whole: for
    each existing directory from a granted tree down to such a path, its entries by name, without
    symbolic links. Only in a best-effort policy; a directory that could not be listed is not in
    it."""
    notes: tuple[str, ...] = ()
    """What the user is told at each start: what a pattern denies more than it says."""


@attrs.frozen(slots=True, kw_only=True)
class ProcessPolicy:
    """Identity, limits and environment of the agent. Locked at spawn."""

    uid: int
    gid: int
    switch_user: bool
    """True when the agent runs under another id than the caller (the caller is root)."""
    max_processes: int
    max_memory: int
    """Bytes. 0 = no limit."""
    max_open_files: int
    timeout: float
    """Seconds. 0 = none."""
    environment_pass: tuple[str, ...] = ()
    environment_set: Mapping[str, str] = attrs.field(factory=dict)
    gpu: bool = False
    origins: Mapping[str, Origin] = attrs.field(factory=dict)


@attrs.frozen(slots=True, kw_only=True)
class SyscallPolicy:
    """Which system calls the agent may make. Locked at spawn."""

    profile: str = "agent"
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    action: Literal["errno", "kill", "log"] = "errno"
    origins: Mapping[str, Origin] = attrs.field(factory=dict)


@attrs.frozen(slots=True, kw_only=True)
class BinaryRule:
    """An executable that may use a network rule: path glob, optionally pinned by digest."""

    path: str
    sha256: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class RpcRule:
    """Calls of JSON-RPC 2.0, and so of MCP; patterns all. ``rpc.response`` is an answer."""

    method: str
    tool: str | None = None
    """The name in the parameters, of MCP's ``tools/call``."""
    arguments: Mapping[str, str] | None = None
    """Of ``tools/call``: values by JSON pointer. See ``HttpRule.query`` for what is not named."""
    params: Mapping[str, str] | None = None
    """Of any method: the same."""


@attrs.frozen(slots=True, kw_only=True)
class GraphqlRule:
    """Operations of GraphQL."""

    operation: Literal["query", "mutation", "subscription"] | None = None
    name: str | None = None
    fields: tuple[str, ...] | None = None
    """Patterns of fields by their real names: ``repository``, ``repository/owner``. One that is
    allowed is so with all below it; every other is not."""


@attrs.frozen(slots=True, kw_only=True)
class HttpRule:
    """Requests that a network rule allows or denies. What is ``None`` or empty says nothing."""

    methods: tuple[str, ...]
    path: str
    query: Mapping[str, str] | None = None
    """Patterns of values by key. An allowance is complete: another key, or one that is missing, is
    refused; ``key?`` may be missing. A denial needs one value to match for each key."""
    websocket: bool | None = None
    """Only requests that ask to become a WebSocket, or only those that do not."""
    rpc: tuple[RpcRule, ...] = ()
    """Every call in the body, or in a message, has to be one of these; of a denial: one."""
    graphql: tuple[GraphqlRule, ...] = ()
    """Every operation: likewise."""


@attrs.frozen(slots=True, kw_only=True)
class NetworkRule:
    """One ``[[network.allow]]`` entry."""

    host: str
    name: str = ""
    ports: tuple[int, ...] = (443,)
    binaries: tuple[BinaryRule, ...] = ()
    http: tuple[HttpRule, ...] = ()
    deny_http: tuple[HttpRule, ...] = ()
    tls: Literal["auto", "terminate", "passthrough"] = "auto"
    addresses: tuple[str, ...] = ()
    credential: str | None = None
    origin: Origin


@attrs.frozen(slots=True, kw_only=True)
class SecretSource:
    """Where a secret is. Never the secret itself."""

    kind: Literal["environment", "file", "plugin"]
    name: str
    """Of the variable of whoever starts nemoclaw, or an absolute path, or a plugin's name."""
    options: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """The plugin's own."""


@attrs.frozen(slots=True, kw_only=True)
class CredentialPolicy:
    """One ``[credential.NAME]`` table that a network rule uses: what is added outside, and where.

    Without ``header``, ``query`` and ``body``, the secret replaces its placeholder in whichever
    header for credentials the agent has put it. The first two are set whether or not the agent sent
    something there.
    """

    name: str
    type: Literal["token", "basic", "aws", "oauth2"] = "token"
    source: SecretSource
    others: Mapping[str, SecretSource] = attrs.field(factory=dict)
    """Of a credential of several parts: ``access_key_id``, ``session_token``, ``client_secret``."""
    env: str = ""
    """Variable in which the agent finds the placeholder."""
    header: str = ""
    scheme: str = ""
    """What stands before the secret in the header: ``Bearer``."""
    query: str = ""
    body: bool = False
    plain: bool = False
    """Whether it may be sent without TLS."""
    username: str = ""
    profile: str = ""
    region: str = ""
    service: str = ""
    grant: Literal["client_credentials", "refresh_token"] = "client_credentials"
    token_url: str = ""
    client_id: str = ""
    scope: str = ""
    addresses: tuple[str, ...] = ()
    """Private ranges that the host of ``token_url`` may resolve to."""
    origin: Origin


@attrs.frozen(slots=True, kw_only=True)
class NetworkPolicy:
    """Where the agent may connect. Can change while the agent runs."""

    mode: Literal["proxy", "none"] = "none"
    unknown: Literal["deny", "ask"] = "deny"
    ask_timeout: float = 120.0
    """Seconds that an operator has to answer; no answer is deny."""
    allow: tuple[NetworkRule, ...] = ()
    credentials: Mapping[str, CredentialPolicy] = attrs.field(factory=dict)
    """Those that rules name."""
    origins: Mapping[str, Origin] = attrs.field(factory=dict)


@attrs.frozen(slots=True, kw_only=True)
class InferenceRule:
    """One ``[[inference.rules]]`` entry; the first that matches decides."""

    labels: tuple[str, ...]
    route: str
    min_confidence: float = 0.5
    redact: bool | Literal["irreversible"] = False
    origin: Origin


@attrs.frozen(slots=True, kw_only=True)
class BackendPolicy:
    """One ``[inference.backends.NAME]`` table. ``options`` belong to the backend's plugin."""

    name: str
    type: str
    options: Mapping[str, object] = attrs.field(factory=dict)
    origin: Origin


@attrs.frozen(slots=True, kw_only=True)
class InferencePolicy:
    """Where prompts may go. Can change while the agent runs."""

    default: str = "deny"
    sensitive: str = "deny"
    hosts: tuple[str, ...] = ()
    rules: tuple[InferenceRule, ...] = ()
    backends: Mapping[str, BackendPolicy] = attrs.field(factory=dict)
    origins: Mapping[str, Origin] = attrs.field(factory=dict)


@attrs.frozen(slots=True, kw_only=True)
class PluginPolicy:
    """The ``[plugins]`` table: what is loaded, what must hold, and each plugin's own table."""

    enable: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict)
    origins: Mapping[str, Origin] = attrs.field(factory=dict)


@attrs.frozen(slots=True, kw_only=True)
class Policy:
    """One named policy, ready for the hooks."""

    name: str
    file: str
    compatibility: Literal["strict", "best-effort"] = "strict"
    filesystem: FilesystemPolicy
    process: ProcessPolicy
    syscalls: SyscallPolicy
    network: NetworkPolicy
    inference: InferencePolicy
    plugins: PluginPolicy
