"""The hooks. This page is the contract between nemoclaw and its plugins.

Each docstring says When / Arguments / Returns / On failure / Example. Arguments may be left out of
an implementation (pluggy passes only those that it names). Hooks marked async may return an
awaitable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from .egress import EgressDecision, EgressRequest
from .events import Event
from .host import Host
from .inference import (
    Backend,
    Finding,
    InferenceCall,
    InferenceResponse,
    Prompt,
    Route,
    Verdict,
)
from .marks import ENTRY_POINT_GROUP, PROJECT, hookimpl, hookspec
from .plan import ExitStatus, Plan
from .policy import BackendPolicy, CredentialPolicy, Policy
from .seal import Layer

__all__ = ["ENFORCEMENT_HOOKS", "ENTRY_POINT_GROUP", "PROJECT", "hookimpl", "hookspec"]

ENFORCEMENT_HOOKS = frozenset(
    {
        "pre_spawn",
        "apply_fs",
        "apply_net",
        "apply_syscall",
        "authorize_egress",
        "classify_prompt",
        "route_inference",
        "inspect_response",
    }
)
"""Hooks in which ``wrapper``, ``hookwrapper``, ``tryfirst`` and ``trylast`` are refused."""


@hookspec
def pre_spawn(plan: Plan) -> Plan | None:
    """Look at a finished plan before anything is built; add to its environment, or refuse.

    When: once for each start of an agent, after the plan is complete and before the first process.
    Arguments: ``plan``, immutable.
    Returns: None, or a plan that differs in ``environment`` alone. Steps, layers, limits and
    paths are the policy's: a plan that differs in them is refused.
    On failure: an exception stops the start; its message is shown with the plugin's name.
    Example::

        @hookimpl
        def pre_spawn(plan):
            return attrs.evolve(plan, environment={**plan.environment, "TEAM": "blue"})
    """


@hookspec
def apply_fs(policy: Policy, host: Host) -> Layer | None:
    """Turn the filesystem policy into seal operations.

    When: while a plan is compiled. The result is cached: it must depend on the arguments alone.
    Arguments: ``policy`` with every path resolved; ``host``, what this kernel and user can do.
    Returns: a :class:`~nemoclaw_hookspecs.Layer` (operations and gaps), or None.
    On failure: an exception stops the start.
    Example::

        @hookimpl
        def apply_fs(policy, host):
            return Layer(operations=(Tmpfs(target="/scratch"),))
    """


@hookspec
def apply_net(policy: Policy, host: Host) -> Layer | None:
    """Turn the network policy into seal operations.

    When: while a plan is compiled. The result is cached: it must depend on the arguments alone.
    Arguments: as for ``apply_fs``.
    Returns: a Layer, or None.
    On failure: an exception stops the start.
    Example::

        @hookimpl
        def apply_net(policy, host):
            return Layer(operations=(Unshare(namespaces=("network",)), LinkUp(interface="lo")))
    """


@hookspec
def apply_syscall(policy: Policy, host: Host) -> Layer | None:
    """Turn the system call policy into seal operations.

    When: while a plan is compiled. The result is cached: it must depend on the arguments alone.
    Arguments: as for ``apply_fs``.
    Returns: a Layer, or None. Several filters add up: the kernel takes the strictest answer.
    On failure: an exception stops the start.
    Example::

        @hookimpl
        def apply_syscall(policy, host):
            return Layer(operations=(SeccompFilter(architecture=host.machine, bpf=build(policy)),))
    """


@hookspec
def authorize_egress(
    request: EgressRequest,
) -> EgressDecision | Awaitable[EgressDecision | None] | None:
    """Judge a connection, or an inspected request inside one. May be async.

    When: for each connection that leaves the sandbox and each request inside an inspected one.
    Arguments: ``request``: who asks, for which host and port, and the request line if inspected.
    Returns: a decision, or None for no opinion. The first deny wins; without an allow it is denied.
    What is held waits until an operator answers; then everybody is asked once more.
    On failure: an exception, or no answer in time, counts as deny.
    Example::

        @hookimpl
        def authorize_egress(request):
            if request.host in BLOCKED:
                return EgressDecision(action="deny", rule="blocklist")
    """


@hookspec
def classify_prompt(  # type: ignore[empty-body]
    prompt: Prompt, policy: Policy
) -> Sequence[Finding] | Awaitable[Sequence[Finding]]:
    """Find what is sensitive in a prompt. May be async.

    When: for each model call; segments that were judged before may be left out of ``prompt``.
    Arguments: ``prompt``: ordered segments; ``policy``: the policy in force.
    Returns: findings with label, span and confidence; an empty sequence for nothing found. The
    findings of all plugins are merged.
    On failure: an exception, or no answer in time, makes the whole prompt count as sensitive.
    Example::

        @hookimpl
        def classify_prompt(prompt):
            return [f for i, s in enumerate(prompt.segments) for f in find_cards(i, s.text)]
    """


@hookspec
def route_inference(
    call: InferenceCall, findings: Sequence[Finding], policy: Policy
) -> Route | Awaitable[Route | None] | None:
    """Propose where a model call goes. May be async.

    When: after classification, for each model call.
    Arguments: ``call``, the merged ``findings``, and the ``policy`` in force.
    Returns: a route, or None. The plugin that the policy names decides by the policy's rules; any
    other can only make the route stricter (a local backend, or ``deny``).
    On failure: an exception, or no answer in time, takes the policy's ``sensitive`` route.
    Example::

        @hookimpl
        def route_inference(call, findings):
            if any(f.label == "source-code" for f in findings):
                return Route(target="local", reason="source stays home")
    """


@hookspec
def inspect_response(
    call: InferenceCall, response: InferenceResponse
) -> Verdict | Awaitable[Verdict | None] | None:
    """Judge a model's reply before the agent sees it. May be async.

    When: for each reply, or each part of a streamed one.
    Arguments: the ``call`` and the ``response`` so far.
    Returns: a verdict, or None for no opinion. The first deny wins; redactions unite.
    On failure: an exception, or no answer in time, counts as deny.
    Example::

        @hookimpl
        def inspect_response(call, response):
            if leaks_secret(response):
                return Verdict(action="deny", reason="a credential in a tool call")
    """


@hookspec(firstresult=True)
def serve_inference(backend: BackendPolicy) -> Backend | None:
    """Make a backend object for a configured model server.

    When: once for each ``[inference.backends.NAME]`` table when a policy comes into force.
    Arguments: ``backend``: name, type and the table's own options.
    Returns: a :class:`~nemoclaw_hookspecs.Backend` when ``backend.type`` is the plugin's own, else
    None. The first answer wins.
    On failure: an exception makes the policy invalid; the one in force stays.
    Example::

        @hookimpl
        def serve_inference(backend):
            if backend.type == "openai":
                return OpenAIBackend(**backend.options)
    """


@hookspec
def fetch_credential(credential: CredentialPolicy) -> str | None:
    """Fetch a secret, from a keyring or a vault for instance. May block for some seconds.

    When: before an agent starts under a policy with a credential that names the plugin; then, in a
    thread of its own, whenever the secret is needed and the last answer is five minutes old.
    Arguments: ``credential``: its name and type; ``credential.source.options`` holds the keys of
    its table that are the plugin's own.
    Returns: the secret, of type ``aws`` as a section of a credentials file; or None: there is none.
    On failure: an exception or None stops the start. Later those, and no answer in ten seconds,
    deny what needs the secret.
    Example::

        @hookimpl
        def fetch_credential(credential):
            return keyring.get_password("agents", credential.source.options["entry"])
    """


@hookspec
def on_event(event: Event) -> Awaitable[None] | None:
    """Receive an event. Must not block. May be async.

    When: after the event was written to the log.
    Arguments: ``event``: an OCSF record without secrets.
    Returns: nothing.
    On failure: the event is offered again later, from the log on disk.
    Example::

        @hookimpl
        def on_event(event):
            queue.put_nowait(event.record)
    """


@hookspec
def post_exit(plan: Plan, status: ExitStatus) -> None:
    """Learn that the agent ended.

    When: once, after the sandbox is gone.
    Arguments: the ``plan`` it ran under and its exit ``status``.
    Returns: nothing.
    On failure: the exception is logged; the exit status stays what it was.
    Example::

        @hookimpl
        def post_exit(plan, status):
            notify(f"agent ended with {status.code}")
    """
