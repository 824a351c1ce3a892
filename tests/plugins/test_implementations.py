"""Claims about how the implementations of a plugin are judged before any is called."""

from __future__ import annotations

from typing import Any

import pytest
from nemoclaw_hookspecs import ENFORCEMENT_HOOKS, Event, PluginError, hookimpl

from nemoclaw_core.plugins import PluginManager

from .conftest import FS, Install, answers, enabling, loaded, refusal


@pytest.mark.parametrize("hook", sorted(ENFORCEMENT_HOOKS))
@pytest.mark.parametrize("option", ["wrapper", "hookwrapper", "tryfirst", "trylast"])
@pytest.mark.parametrize("by_hand", [False, True], ids=["marked", "by hand"])
def test_enforcement_hooks_refuse_ordering_and_wrapping(
    hook: str, option: str, by_hand: bool, install: Install
) -> None:
    body = "return (yield)" if "wrapper" in option else "return None"
    mark = "" if by_hand else f"@hookimpl({option}=True)\n"
    source = f"{mark}def {hook}():\n    {body}\n"
    if by_hand:
        source += f"{hook}.nemoclaw_impl = {{{option!r}: True}}\n"
    install("sly", source)
    error = refusal("sly")
    assert error.plugin == "sly"
    assert f"{hook} may not be marked with {option}" in error.what


def test_an_option_smuggled_in_under_another_function_name_is_refused(install: Install) -> None:
    install("sly", "@hookimpl(specname='apply_fs', tryfirst=True)\ndef harmless(): return None\n")
    assert "apply_fs may not be marked with tryfirst" in refusal("sly").what


def test_an_option_that_is_merely_truthy_is_refused(install: Install) -> None:
    install("sly", "def apply_fs(): return None\napply_fs.nemoclaw_impl = {'tryfirst': 'x'}\n")
    assert "may not be marked with tryfirst" in refusal("sly").what


@pytest.mark.parametrize("hook", ["on_event", "post_exit", "serve_inference"])
@pytest.mark.parametrize("option", ["wrapper", "hookwrapper"])
def test_no_hook_can_be_wrapped(hook: str, option: str, install: Install) -> None:
    install("sly", f"@hookimpl({option}=True)\ndef {hook}():\n    return (yield)\n")
    assert f"{hook} may not be marked with {option}" in refusal("sly").what


def test_nobody_can_jump_the_queue_where_the_first_answer_wins(install: Install) -> None:
    install("sly", "@hookimpl(tryfirst=True)\ndef serve_inference(backend): return None\n")
    assert "may not be marked with tryfirst" in refusal("sly").what


def test_a_sink_may_ask_to_be_told_first(install: Install) -> None:
    install("early", "@hookimpl\ndef on_event(event): return None\n")
    install("keen", "@hookimpl(tryfirst=True)\ndef on_event(event): return None\n")
    install("lazy", "@hookimpl(trylast=True)\ndef on_event(event): return None\n")
    event = Event(sandbox="s", class_uid=1, time=0, record={})
    outcomes = loaded("lazy", "early", "keen").each("on_event", event=event)
    assert [outcome.plugin for outcome in outcomes] == ["keen", "early", "lazy"]


@pytest.mark.parametrize("mark", ["@hookimpl", "@hookimpl(optionalhook=True)"])
def test_an_unknown_hook_is_an_error_even_when_called_optional(mark: str, install: Install) -> None:
    install("typo", f"{FS}\n{mark}\ndef aply_net(policy, host): return None\n")
    error = refusal("typo")
    assert "unknown hook 'aply_net'" in error.what
    assert "apply_net" in str(error.remedy)


def test_optionalhook_is_refused_on_a_known_hook_too(install: Install) -> None:
    install("typo", "@hookimpl(optionalhook=True)\ndef apply_fs(policy): return None\n")
    assert "may not be marked with optionalhook" in refusal("typo").what


def test_a_refused_plugin_leaves_nothing_behind(install: Install) -> None:
    install("good", FS)
    install("typo", f"{FS}\n@hookimpl\ndef aply_net(policy, host): return None\n")
    manager = PluginManager()
    manager.attempt(enabling("typo", "good"))
    assert [name for name, _ in answers(manager)] == ["good"]
    manager.check_pending()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def apply_fs(policy, host): return None", "apply_fs without @hookimpl"),
        ("apply_fs = lambda policy, host: None", "apply_fs without @hookimpl"),
        (
            "import functools\n@functools.lru_cache\n@hookimpl\ndef apply_fs(policy): return None",
            "no plain function",
        ),
        (
            "import functools\nf = hookimpl(lambda policy, host: None)\n"
            "apply_fs = hookimpl(functools.partial(f))",
            "no plain function",
        ),
        ("def apply_fs(): return None\napply_fs.nemoclaw_impl = True", "not made by @hookimpl"),
        ("@hookimpl\ndef apply_fs(*args): return None", "which the hook does not pass"),
        ("@hookimpl\ndef apply_fs(**kwargs): return None", "which the hook does not pass"),
        ("@hookimpl\ndef apply_fs(policy, /): return None", "which the hook does not pass"),
        ("@hookimpl\ndef apply_fs(polcy=None): return None", "which the hook does not pass"),
        ("@hookimpl\ndef apply_fs(*, hosts): return None", "which the hook does not pass"),
        ("@hookimpl\ndef apply_fs(polcy): return None", "can not be found in the hookspec"),
        ("", "implements no hook"),
        (
            f"{FS}\n@hookimpl(specname='apply_fs')\ndef again(): return None",
            "implements apply_fs twice",
        ),
        (f"{FS}\ndef __dir__(): raise ValueError('no')", "cannot be registered: ValueError: no"),
    ],
)
def test_an_implementation_that_would_be_passed_over_in_silence_is_refused(
    source: str, told: str, install: Install
) -> None:
    install("quiet", source)
    error = refusal("quiet")
    assert told in str(error)
    assert "quiet" in str(error)


def test_what_is_registered_directly_is_held_to_the_same_rules() -> None:
    class Sly:
        NEMOCLAW_API = (1, 0)

        @hookimpl(tryfirst=True)
        def apply_fs(self, policy: Any, host: Any) -> None:
            return None

    manager = PluginManager()
    with pytest.raises(PluginError, match="tryfirst"):
        manager.register(Sly(), "sly")
    assert manager.loaded == ()
