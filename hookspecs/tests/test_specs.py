"""Claims about the hook specifications: documented in one form, and their examples work."""

from __future__ import annotations

import asyncio
import inspect
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import nemoclaw_hookspecs
import pluggy
import pytest
from nemoclaw_hookspecs import (
    ENFORCEMENT_HOOKS,
    NAMESPACES,
    PROJECT,
    BackendPolicy,
    BindMount,
    Caller,
    CredentialPolicy,
    EgressDecision,
    EgressRequest,
    Event,
    ExitStatus,
    FilesystemPolicy,
    Finding,
    Host,
    InferenceCall,
    InferencePolicy,
    InferenceResponse,
    Layer,
    LinkUp,
    NetworkPolicy,
    Origin,
    Plan,
    PluginPolicy,
    Policy,
    ProcessPolicy,
    Prompt,
    Route,
    SeccompFilter,
    SecretSource,
    Segment,
    SyscallPolicy,
    Tmpfs,
    Unshare,
    Verdict,
    specs,
)

HOOKS = {
    name: function
    for name, function in inspect.getmembers(specs, inspect.isfunction)
    if hasattr(function, f"{PROJECT}_spec")
}
HEADINGS = ("When:", "Arguments:", "Returns:", "On failure:", "Example::")
DOCUMENT = Path(__file__).parents[2] / "docs" / "hooks.md"
DESIGNED = {
    "pre_spawn",
    "apply_net",
    "apply_fs",
    "apply_syscall",
    "authorize_egress",
    "classify_prompt",
    "route_inference",
    "inspect_response",
    "serve_inference",
    "fetch_credential",
    "on_event",
    "post_exit",
}


def signature(name: str) -> str:
    return f"{name}({', '.join(inspect.signature(HOOKS[name]).parameters)})"


def sections(name: str) -> dict[str, str]:
    """A hook's docstring, cut at its headings."""
    text = inspect.getdoc(HOOKS[name]) or ""
    parts = re.split(rf"^({'|'.join(map(re.escape, HEADINGS))})", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_hooks_are_the_designed_ones() -> None:
    assert set(HOOKS) == DESIGNED
    assert set(HOOKS) >= ENFORCEMENT_HOOKS


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_summary_and_the_five_headings(name: str) -> None:
    text = inspect.getdoc(HOOKS[name]) or ""
    assert re.match(r"[A-Z][^\n]*\.\n\n", text)
    found = [line for line in HEADINGS if re.search(rf"^{re.escape(line)}", text, re.MULTILINE)]
    assert found == list(HEADINGS)
    for heading, body in sections(name).items():
        assert body.strip(), heading


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_typed(name: str) -> None:
    parameters = inspect.signature(HOOKS[name])
    assert parameters.return_annotation is not inspect.Signature.empty
    for parameter in parameters.parameters.values():
        assert parameter.annotation is not parameter.empty
        assert parameter.default is parameter.empty, "a default would never be passed"


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_test_of_its_own(name: str) -> None:
    assert f"test_hook_{name}" in globals()


def test_the_document_has_every_hook_and_no_other() -> None:
    headings = re.findall(r"^### (.+)$", DOCUMENT.read_text(), flags=re.MULTILINE)
    assert sorted(headings) == sorted(map(signature, HOOKS))


@pytest.mark.parametrize("name", HOOKS)
def test_the_document_says_what_the_docstring_says(name: str) -> None:
    """docs/hooks.md carries each docstring: prose word for word, the example line for line."""
    _, _, rest = DOCUMENT.read_text().partition(f"### {signature(name)}\n")
    written = re.split(r"\n###? ", rest)[0]
    words = " ".join(written.split())
    text = re.sub(
        r":class:`~nemoclaw_hookspecs\.(\w+)`", r"`\1`", inspect.getdoc(HOOKS[name]) or ""
    )
    prose, _, example = text.replace("``", "`").partition("Example::")
    for paragraph in re.split(rf"\n\n|\n(?={'|'.join(HEADINGS)})", prose.strip()):
        assert " ".join(paragraph.split()) in words
    assert f"```python\n{textwrap.dedent(example).strip()}\n```" in written


# --- the examples


ORIGIN = Origin(file="policies.toml", line=1, key="x")
POLICY = Policy(
    name="test",
    file="policies.toml",
    filesystem=FilesystemPolicy(workdir="/w", home="/h"),
    process=ProcessPolicy(
        uid=1,
        gid=1,
        switch_user=False,
        max_processes=1,
        max_memory=0,
        max_open_files=1,
        timeout=0.0,
    ),
    syscalls=SyscallPolicy(),
    network=NetworkPolicy(),
    inference=InferencePolicy(),
    plugins=PluginPolicy(),
)
HOST = Host(
    machine="x86_64",
    kernel="6.18",
    uid=1,
    gid=1,
    landlock_abi=7,
    namespaces=frozenset(),
    seccomp=True,
    idmapped_mounts=False,
    cgroup="none",
)
PLAN = Plan(policy="p", steps=(), layers=(), environment={"CI": "1"})
PROMPT = Prompt(
    conversation="c", segments=(Segment(role="user", kind="text", text="4111", location="/x"),)
)
CALL = InferenceCall(sandbox="s", format="openai", prompt=PROMPT)
FINDING = Finding(label="card", segment=0, start=0, end=4, confidence=0.9, source="toy")


def run_example(hook: str, arguments: dict[str, Any], **names: Any) -> Any:
    """Execute the example of a hook's docstring as a plugin, and call it through pluggy."""
    plugin = ModuleType("example")
    vars(plugin).update({name: getattr(nemoclaw_hookspecs, name) for name in _public()})
    vars(plugin).update(attrs=attrs, **names)
    # Contract names that are hooks here would count as implementations; none may be exported.
    assert not set(HOOKS) & set(_public())
    exec(textwrap.dedent(sections(hook)["Example::"]), vars(plugin))
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    manager.register(plugin)
    manager.check_pending()
    return getattr(manager.hook, hook)(**arguments)


def _public() -> list[str]:
    return list(nemoclaw_hookspecs.__all__)


def test_hook_pre_spawn() -> None:
    (plan,) = run_example("pre_spawn", {"plan": PLAN})
    assert plan.environment == {"CI": "1", "TEAM": "blue"}
    assert attrs.evolve(plan, environment=PLAN.environment) == PLAN


def test_hook_apply_fs() -> None:
    (layer,) = run_example("apply_fs", {"policy": POLICY, "host": HOST})
    assert layer == Layer(operations=(Tmpfs(target="/scratch"),))


def test_hook_apply_net() -> None:
    (layer,) = run_example("apply_net", {"policy": POLICY, "host": HOST})
    assert layer.operations == (Unshare(namespaces=("network",)), LinkUp())


def test_hook_apply_syscall() -> None:
    (layer,) = run_example(
        "apply_syscall", {"policy": POLICY, "host": HOST}, build=lambda policy: b"bpf"
    )
    assert layer.operations == (SeccompFilter(architecture="x86_64", bpf=b"bpf"),)


def test_hook_authorize_egress() -> None:
    caller = Caller(pid=1, executable="/usr/bin/git")
    request = EgressRequest(sandbox="s", host="evil.test", port=443, protocol="tls", caller=caller)
    (decision,) = run_example("authorize_egress", {"request": request}, BLOCKED={"evil.test"})
    assert decision == EgressDecision(action="deny", rule="blocklist")
    fine = attrs.evolve(request, host="good.test")
    assert run_example("authorize_egress", {"request": fine}, BLOCKED={"evil.test"}) == []


def test_hook_classify_prompt() -> None:
    (findings,) = run_example(
        "classify_prompt",
        {"prompt": PROMPT, "policy": POLICY},
        find_cards=lambda index, text: [attrs.evolve(FINDING, segment=index, end=len(text))],
    )
    assert findings == [FINDING]


def test_hook_route_inference() -> None:
    arguments = {"call": CALL, "policy": POLICY}
    source = attrs.evolve(FINDING, label="source-code")
    (route,) = run_example("route_inference", {**arguments, "findings": [source]})
    assert route == Route(target="local", reason="source stays home")
    assert run_example("route_inference", {**arguments, "findings": [FINDING]}) == []


def test_hook_inspect_response() -> None:
    response = InferenceResponse(segments=PROMPT.segments, complete=True)
    arguments = {"call": CALL, "response": response}
    (verdict,) = run_example("inspect_response", arguments, leaks_secret=lambda _: True)
    assert verdict == Verdict(action="deny", reason="a credential in a tool call")
    assert run_example("inspect_response", arguments, leaks_secret=lambda _: False) == []


def test_hook_serve_inference() -> None:
    class OpenAIBackend:
        def __init__(self, base_url: str) -> None:
            self.base_url = base_url

    backend = BackendPolicy(
        name="cloud", type="openai", options={"base_url": "https://api.test"}, origin=ORIGIN
    )
    served = run_example("serve_inference", {"backend": backend}, OpenAIBackend=OpenAIBackend)
    assert served.base_url == "https://api.test"  # firstresult: no list
    other = attrs.evolve(backend, type="onnx")
    assert run_example("serve_inference", {"backend": other}, OpenAIBackend=OpenAIBackend) is None


def test_hook_fetch_credential() -> None:
    class Keyring:
        def get_password(self, service: str, entry: str) -> str:
            return f"secret of {service}/{entry}"

    source = SecretSource(kind="plugin", name="keyring", options={"entry": "github"})
    credential = CredentialPolicy(name="github", source=source, origin=ORIGIN)
    arguments = {"credential": credential}
    found = run_example("fetch_credential", arguments, keyring=Keyring())
    assert found == ["secret of agents/github"]


def test_hook_on_event() -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    event = Event(sandbox="s", class_uid=1007, time=0, record={"class_uid": 1007})
    run_example("on_event", {"event": event}, queue=queue)
    assert queue.get_nowait() == event.record


def test_hook_post_exit() -> None:
    told: list[str] = []
    arguments = {"plan": PLAN, "status": ExitStatus(code=3)}
    run_example("post_exit", arguments, notify=told.append)
    assert told == ["agent ended with 3"]


def test_values_are_frozen() -> None:
    mount = BindMount(source="/a", target="/a", kind="directory")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        mount.read_only = False  # type: ignore[misc]


def test_a_view_takes_a_mount_and_a_pid_namespace_and_someone_who_asks_for_it() -> None:
    everything = Host(
        machine="x86_64", kernel="6.18", uid=1000, gid=1000, landlock_abi=7,
        namespaces=NAMESPACES, seccomp=True, idmapped_mounts=False, cgroup="none",
    )  # fmt: skip
    assert everything.view
    assert everything.made_by(("mounts", "netns")) >= {"mount", "pid", "ipc", "network"}
    assert everything.made_by(("netns",)) == {"network"}
    assert everything.made_by(()) == frozenset()
    for missing in ("mount", "pid"):
        host = attrs.evolve(everything, namespaces=everything.namespaces - {missing})
        assert not host.view
        assert host.made_by(("mounts", "netns")) == {"network"}
