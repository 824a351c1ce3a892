"""Claims about how plugins are found, judged and called."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nemoclaw_hookspecs import (
    ENFORCEMENT_HOOKS,
    Event,
    Layer,
    Origin,
    PluginError,
    PluginPolicy,
    PolicyError,
    hookimpl,
    specs,
)

from nemoclaw_core.plugins import PluginManager, discover

if TYPE_CHECKING:
    from .conftest import Install

FS = """
@hookimpl
def apply_fs(policy, host):
    return Layer(operations=(Tmpfs(target="/scratch"),))
"""


def enabling(*names: str, **options: dict[str, object]) -> PluginPolicy:
    places = [f"enable[{at}]" for at in range(len(names))]
    places += [f"{name}.{key}" for name, table in options.items() for key in table]
    return PluginPolicy(
        enable=names,
        options=options,
        origins={at: Origin(file="policies.toml", line=7, key=f"plugins.{at}") for at in places},
    )


def loaded(*names: str, **options: dict[str, object]) -> PluginManager:
    manager = PluginManager()
    manager.load(enabling(*names, **options))
    return manager


def refusal(*names: str, **options: dict[str, object]) -> PluginError:
    with pytest.raises(PluginError) as caught:
        loaded(*names, **options)
    return caught.value


def answers(manager: PluginManager, hook: str = "apply_fs") -> list[tuple[str, object]]:
    return [
        (outcome.plugin, outcome.error or outcome.value)
        for outcome in manager.each(hook, policy=None, host=None)
    ]


def no_arguments(hook: str) -> dict[str, None]:
    """None for each argument of a hook, for implementations that look at none."""
    return dict.fromkeys(inspect.signature(getattr(specs, hook)).parameters)


# --- finding


def test_discover_reads_metadata_and_imports_nothing(install: Install) -> None:
    module = install("zebra", "raise SystemExit('imported')", distribution="vendor-zebra")
    found = {plugin.name: plugin for plugin in discover()}
    assert (found["zebra"].distribution, found["zebra"].version) == ("vendor-zebra", "1.0")
    assert module not in sys.modules


def test_a_plugin_that_is_not_enabled_is_never_imported(install: Install) -> None:
    wanted, unwanted = install("wanted", FS), install("unwanted", FS)
    assert loaded("wanted").loaded == ("wanted",)
    assert wanted in sys.modules
    assert unwanted not in sys.modules


def test_plugins_are_called_in_the_order_of_enable(install: Install) -> None:
    for name in ("alpha", "beta", "gamma"):
        install(name, FS)
    for order in (("gamma", "alpha", "beta"), ("beta", "gamma", "alpha")):
        assert [name for name, _ in answers(loaded(*order))] == list(order)


def test_a_name_enabled_twice_is_loaded_once(install: Install) -> None:
    install("alpha", FS)
    assert len(answers(loaded("alpha", "alpha"))) == 1


def test_two_distributions_with_one_name_are_refused_by_name(install: Install) -> None:
    first = install("twin", FS, distribution="honest-twin", version="1.0")
    second = install("twin", FS, distribution="evil-twin", version="6.6")
    error = refusal("twin")
    assert "honest-twin 1.0" in str(error)
    assert "evil-twin 6.6" in str(error)
    assert first not in sys.modules
    assert second not in sys.modules


def test_a_missing_plugin_is_refused_with_its_line_and_the_nearest_name(install: Install) -> None:
    install("landlocker", FS)
    error = refusal("landlockr")
    assert error.where == "policies.toml:7 plugins.enable[0]"
    assert "did you mean 'landlocker'?" in str(error)
    assert error.exit_code == 4


@pytest.mark.parametrize("name", ["core", "Core", "a b", "", "../x", "a\n"])
def test_a_plugin_cannot_have_a_name_that_misleads(name: str, install: Install) -> None:
    assert "cannot be a plugin's name" in refusal(name).what


def test_core_stays_reserved_when_somebody_installs_it(install: Install) -> None:
    module = install("core", FS)
    refusal("core")
    assert module not in sys.modules


def test_unreadable_metadata_is_refused_naming_the_distribution(
    install: Install, tmp_path: Path
) -> None:
    install("alpha", FS)
    broken = tmp_path / "site" / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[nemoclaw]\nthis is no entry point\n")
    error = refusal("alpha")
    assert "broken-1.0.dist-info" in str(error)


# --- importing


@pytest.mark.parametrize(
    "source", ["raise RuntimeError('boom')", "import sys; sys.exit(0)", "import no_such_module_x"]
)
def test_a_plugin_that_fails_to_import_is_an_error_and_does_not_stop_the_others(
    source: str, install: Install
) -> None:
    install("good", FS)
    install("bad", source, distribution="vendor-bad")
    error = refusal("bad", "good")
    assert error.plugin == "bad"
    assert "vendor-bad 1.0" in error.what
    manager = PluginManager()
    assert set(manager.attempt(enabling("bad", "good"))) == {"bad"}
    assert manager.loaded == ("good",)


def test_all_failures_are_told_at_once(install: Install) -> None:
    install("bad", "raise RuntimeError('boom')")
    error = refusal("bad", "missing")
    assert "boom" in str(error)
    assert "'missing' is not installed" in str(error)


def test_an_entry_point_may_be_an_object(install: Install) -> None:
    source = """
    class Walls:
        NEMOCLAW_API = (1, 0)

        @hookimpl
        def apply_fs(self, host):
            return Layer()

        @staticmethod
        @hookimpl
        def apply_net(policy):
            return None

        @classmethod
        @hookimpl
        def apply_syscall(cls):
            return None

    plugin = Walls()
    """
    install("walls", source, header="from nemoclaw_hookspecs import *\n", attribute="plugin")
    manager = loaded("walls")
    assert manager.hooks_of("walls") == ("apply_fs", "apply_net", "apply_syscall")
    for hook in manager.hooks_of("walls"):
        assert all(not isinstance(answer, PluginError) for _, answer in answers(manager, hook))


def test_a_class_as_entry_point_is_refused(install: Install) -> None:
    source = """
    class Walls:
        NEMOCLAW_API = (1, 0)

        @hookimpl
        def apply_fs(self, policy, host):
            return Layer()
    """
    install("walls", source, attribute="Walls")
    assert "self" in refusal("walls").what


# --- the version of the contract


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("", "does not say"),
        ("NEMOCLAW_API = '1.0'", "does not say"),
        ("NEMOCLAW_API = (1,)", "does not say"),
        ("NEMOCLAW_API = (True, 0)", "does not say"),
        ("NEMOCLAW_API = [1, 0]", "does not say"),
        ("NEMOCLAW_API = (0, 9)", "upgrade the plugin"),
        ("NEMOCLAW_API = (2, 0)", "upgrade nemoclaw"),
        ("NEMOCLAW_API = (1, 1)", "upgrade nemoclaw"),
    ],
)
def test_an_incompatible_plugin_is_refused_with_what_to_upgrade(
    declared: str, told: str, install: Install
) -> None:
    header = f"from nemoclaw_hookspecs import *\n{declared}\n"
    install("old", FS, header=header, distribution="vendor-old", version="3.1")
    error = refusal("old")
    assert told in str(error)
    assert "vendor-old 3.1" in str(error)


def test_a_plugin_of_an_older_minor_version_is_taken(install: Install) -> None:
    install("old", FS)
    manager = PluginManager(api=(1, 7))
    manager.load(enabling("old"))
    assert manager.loaded == ("old",)


# --- implementations


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


# --- options


VALIDATING = (
    FS
    + """
def validate_options(options):
    if not isinstance(options.get("size"), int):
        raise PolicyError("size must be a number", remedy="size = 1")
"""
)


def test_a_plugin_judges_its_own_table(install: Install) -> None:
    install("sized", VALIDATING)
    assert loaded("sized", sized={"size": 1}).loaded == ("sized",)
    wrongs: tuple[dict[str, object], ...] = ({"size": "x"}, {})
    for wrong, where in zip(
        wrongs, ("policies.toml:7 plugins.sized.size", "plugins.sized"), strict=True
    ):
        with pytest.raises(PolicyError, match="size must be a number") as caught:
            loaded("sized", sized=wrong)
        assert caught.value.where == where
        assert caught.value.exit_code == 3


def test_a_refused_table_leaves_the_plugin_out(install: Install) -> None:
    install("sized", VALIDATING)
    manager = PluginManager()
    manager.attempt(enabling("sized"))
    assert manager.loaded == ()
    assert answers(manager) == []


def test_options_of_a_plugin_that_takes_none_are_an_error(install: Install) -> None:
    install("plain", FS)
    assert loaded("plain", plain={}).loaded == ("plain",)
    with pytest.raises(PolicyError, match="takes no options"):
        loaded("plain", plain={"size": 1})


def test_options_of_a_plugin_that_is_not_installed_are_an_error(install: Install) -> None:
    install("plain", FS)
    with pytest.raises(PolicyError, match="not installed") as caught:
        loaded("plain", plian={"size": 1})
    assert "did you mean 'plain'?" in str(caught.value)


def test_a_table_of_a_plugin_that_is_off_is_left_alone(install: Install) -> None:
    install("plain", FS)
    module = install("off", FS)
    loaded("plain", off={"size": 1})
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return False", "must return None or raise PolicyError"),
        ("raise KeyError('size')", "failed in validate_options: KeyError"),
        ("options['size'] = 2", "failed in validate_options: TypeError"),
    ],
)
def test_a_validator_that_breaks_its_contract_is_an_error(
    body: str, told: str, install: Install
) -> None:
    install("odd", f"{FS}\ndef validate_options(options):\n    {body}\n")
    assert told in refusal("odd", odd={"size": 1}).what


# --- calling


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


def test_core_imports_no_plugin_by_name() -> None:
    script = (
        "import sys, nemoclaw_core.plugins, nemoclaw_core.pipeline, nemoclaw_core.seal\n"
        "print([m for m in sys.modules if m.startswith('nemoclaw_plugin')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
