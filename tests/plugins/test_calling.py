"""Claims about calling hooks: what is passed, what is answered, and what may fail."""

from __future__ import annotations

import sys
import types

import pytest
from nemoclaw_hookspecs import Layer, PluginError

from nemoclaw_core.plugins import PluginManager

from .conftest import FS, Install, answers, loaded, no_arguments


def test_one_failure_does_not_hide_the_other_answers(install: Install) -> None:
    install("before", FS)
    install("bad", "@hookimpl\ndef apply_fs(policy): raise RuntimeError('landlock failed')\n")
    install("after", FS)
    found = answers(loaded("before", "bad", "after"))
    assert [name for name, _ in found] == ["before", "bad", "after"]
    assert isinstance(found[0][1], Layer)
    assert isinstance(found[2][1], Layer)
    error = found[1][1]
    assert isinstance(error, PluginError)
    assert error.plugin == "bad"
    assert "apply_fs" in error.what
    assert "landlock failed" in error.what
    assert isinstance(error.__cause__, RuntimeError)


def test_a_plugin_cannot_end_the_program(install: Install) -> None:
    install("quitter", "@hookimpl\ndef apply_fs(policy): raise SystemExit(0)\n")
    ((_, error),) = answers(loaded("quitter"))
    assert isinstance(error, PluginError)


def test_a_refusal_keeps_its_own_words(install: Install) -> None:
    source = """
    @hookimpl
    def apply_fs(policy):
        raise LayerUnavailable("no walls here", where="policies.toml:3", remedy="buy walls")
    """
    install("strict", source)
    ((_, error),) = answers(loaded("strict"))
    assert isinstance(error, PluginError)
    assert (error.where, error.remedy) == ("policies.toml:3", "buy walls")
    assert "no walls here" in error.what


def test_only_the_arguments_that_are_named_are_passed(install: Install) -> None:
    source = """
    seen = []

    @hookimpl
    def apply_fs(*, host="default"):
        seen.append(host)
    """
    module = install("picky", source)
    loaded("picky").each("apply_fs", policy="P", host="H")
    assert sys.modules[module].seen == ["H"]


def test_a_call_names_exactly_the_hooks_arguments() -> None:
    with pytest.raises(TypeError, match="policy, host"):
        PluginManager().each("apply_fs", policy=None)
    with pytest.raises(TypeError, match="policy, host"):
        PluginManager().each("apply_fs", policy=None, host=None, more=None)


WRONG = {
    "apply_fs": ["[]", "True", "(Tmpfs(target='/x'),)", "type('L', (Layer,), {})()", "Layer"],
    "pre_spawn": ["{}", "'x'"],
    "authorize_egress": ["'allow'", "True"],
    "classify_prompt": ["None", "'abc'", "[1]", "{}", "iter(())"],
    "route_inference": ["'local'"],
    "inspect_response": ["'deny'"],
    "serve_inference": ["1", "object()"],
    "fetch_credential": ["b'secret'", "['secret']"],
    "on_event": ["1"],
    "post_exit": ["0"],
}


@pytest.mark.parametrize(("hook", "value"), [(h, v) for h, many in WRONG.items() for v in many])
def test_an_answer_of_the_wrong_type_is_the_plugins_error(
    hook: str, value: str, install: Install
) -> None:
    install("wrong", f"@hookimpl\ndef {hook}():\n    return {value}\n")
    manager = loaded("wrong")
    (outcome,) = manager.each(hook, **no_arguments(hook))
    assert outcome.value is None
    assert isinstance(outcome.error, PluginError)
    assert f"'wrong': {hook} returned" in outcome.error.what


RIGHT = {
    "apply_fs": ["None", "Layer()"],
    "authorize_egress": ["None", "EgressDecision(action='deny', rule='x')"],
    "classify_prompt": ["[]", "()"],
    "serve_inference": ["None", "B()"],
    "fetch_credential": ["None", "'secret'"],
    "on_event": ["None"],
    "post_exit": ["None"],
}
BACKEND = "class B:\n    def complete(self, call): ...\n    async def close(self): ...\n"


@pytest.mark.parametrize(("hook", "value"), [(h, v) for h, many in RIGHT.items() for v in many])
def test_an_answer_of_the_right_type_is_handed_on(hook: str, value: str, install: Install) -> None:
    install("right", f"{BACKEND}\n@hookimpl\ndef {hook}():\n    return {value}\n")
    manager = loaded("right")
    (outcome,) = manager.each(hook, **no_arguments(hook))
    assert outcome.error is None


def test_an_async_answer_is_taken_where_the_hook_may_be_async_and_only_there(
    install: Install, recwarn: pytest.WarningsRecorder
) -> None:
    install(
        "awaits",
        "@hookimpl\nasync def authorize_egress(request): return None\n"
        "@hookimpl\nasync def apply_fs(policy, host): return Layer()\n",
    )
    manager = loaded("awaits")
    (decision,) = manager.each("authorize_egress", request=None)
    assert isinstance(decision.value, types.CoroutineType)
    decision.value.close()
    (layer,) = manager.each("apply_fs", policy=None, host=None)
    assert layer.error is not None
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


def test_the_multicall_of_pluggy_is_out_of_reach(install: Install) -> None:
    install("walls", FS)
    manager = loaded("walls")
    with pytest.raises(TypeError, match="each"):
        manager.hook.apply_fs(policy=None, host=None)
    with pytest.raises(TypeError, match="load"):
        manager.load_setuptools_entrypoints("nemoclaw")
