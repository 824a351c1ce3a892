"""What makes a plugin acceptable: its contract version, its implementations, their answers.

Every check reads the hook specifications themselves, so a hook that is added to the contract is
held to the same rules without a line here.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from types import FunctionType, MethodType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import attrs
import pluggy
from nemoclaw_hookspecs import specs
from nemoclaw_hookspecs.errors import NemoclawError, PluginError, PolicyError
from nemoclaw_hookspecs.policy import PluginPolicy

_MARK = f"{specs.PROJECT}_impl"
_SPECIFICATION = f"{specs.PROJECT}_spec"
_UNIONS = (Union, UnionType)


@attrs.frozen(slots=True, kw_only=True)
class Promise:
    """What a hook takes and gives, read from its specification's signature."""

    hook: str
    arguments: tuple[str, ...]
    ordered: bool
    """True when a decision hangs on the order of calls, so no plugin may choose its place."""
    answers: tuple[Any, ...]
    """The alternatives of the return annotation."""

    @classmethod
    def of(cls, hook: str) -> Promise:
        """The promise of one hook of :mod:`nemoclaw_hookspecs.specs`."""
        function = getattr(specs, hook)
        declared = typing.get_type_hints(function)["return"]
        options = getattr(function, _SPECIFICATION)
        return cls(
            hook=hook,
            arguments=tuple(inspect.signature(function).parameters),
            ordered=hook in specs.ENFORCEMENT_HOOKS or bool(options["firstresult"]),
            answers=get_args(declared) if get_origin(declared) in _UNIONS else (declared,),
        )

    def problem(self, value: object) -> str | None:
        """What is wrong with an answer, or None. An awaitable is not waited for."""
        if any(_fits(value, kind) for kind in self.answers):
            return None
        if inspect.iscoroutine(value):
            value.close()  # nobody will ever await it
        expected = " or ".join(map(_named, self.answers))
        return f"returned {type(value).__name__}, expected {expected}"


def _fits(value: object, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin is Awaitable:
        return inspect.isawaitable(value)
    if origin is Sequence:
        (item,) = get_args(kind)
        return isinstance(value, (list, tuple)) and all(_fits(each, item) for each in value)
    if kind in (None, NoneType):
        return value is None
    if attrs.has(kind):
        return type(value) is kind  # a subclass could answer differently each time it is asked
    methods = (name for name in vars(kind) if not name.startswith("_"))
    return value is not None and all(callable(getattr(value, name, None)) for name in methods)


def _named(kind: Any) -> str:
    if kind in (None, NoneType):
        return "None"
    if get_origin(kind) in _UNIONS:
        return " or ".join(map(_named, get_args(kind)))
    items = ", ".join(map(_named, get_args(kind)))
    name = getattr(kind, "__name__", str(kind))
    return f"{name}[{items}]" if items else str(name)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A remedy for a misspelt name: "did you mean ...?", or None when nothing is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else None


def check_version(plugin: object, name: str, offered: tuple[int, int], provider: str) -> None:
    """Hold a plugin to the version of the contract that it was written for.

    :param provider: the distribution and version that it comes from, for the remedy.
    :raises PluginError: ``NEMOCLAW_API`` is missing or malformed, of another major version, or of
        a newer minor version than ``offered``.
    """
    asked = getattr(plugin, "NEMOCLAW_API", None)
    if (
        not isinstance(asked, tuple)
        or len(asked) != 2
        or not all(type(number) is int and number >= 0 for number in asked)
    ):
        raise PluginError(
            f"plugin {name!r} ({provider}) does not say which contract it was written for: "
            f"NEMOCLAW_API is {asked!r}",
            plugin=name,
            remedy=f"its author adds: NEMOCLAW_API = ({offered[0]}, {offered[1]})",
        )
    written, here = (f"{major}.{minor}" for major, minor in (asked, offered))
    message = (
        f"plugin {name!r} ({provider}) was written for version {written} of the plugin "
        f"contract, and this nemoclaw offers {here}"
    )
    if asked[0] < offered[0]:
        raise PluginError(
            message,
            plugin=name,
            remedy=f"upgrade the plugin to a release for contract {offered[0]}",
        )
    if asked > offered:
        raise PluginError(
            message,
            plugin=name,
            remedy="upgrade nemoclaw and nemoclaw-hookspecs, or install an older release of the "
            "plugin",
        )


def check_marks(plugin: object, name: str, hooks: Iterable[str]) -> None:
    """Find implementations that pluggy would pass over in silence.

    It looks only at functions whose mark is a dictionary. A forgotten ``@hookimpl``, or one on
    top of ``functools.lru_cache``, would leave an enforcement hook without its implementation.

    :raises PluginError: there is one.
    """
    hooks = frozenset(hooks)
    for attribute in dir(plugin):
        target: Any = inspect.getattr_static(plugin, attribute, None)
        if isinstance(target, (staticmethod, classmethod, MethodType)):
            target = target.__func__
        hookable = isinstance(target, FunctionType)
        if isinstance(target, property):
            target = target.fget
        mark = inspect.getattr_static(target, _MARK, None)
        if mark is None:
            forgotten = attribute in hooks and callable(target)
            if forgotten and not hasattr(target, _SPECIFICATION):
                raise PluginError(
                    f"plugin {name!r} has {attribute} without @hookimpl",
                    plugin=name,
                    remedy="mark it, or rename it",
                )
        elif type(mark) is not dict:
            raise PluginError(
                f"plugin {name!r}: the mark of {attribute} was not made by @hookimpl", plugin=name
            )
        elif not hookable:
            raise PluginError(
                f"plugin {name!r}: {attribute} is marked with @hookimpl but is no plain function",
                plugin=name,
                remedy="put @hookimpl on a function, above every other decorator that returns one",
            )


def check_implementation(
    name: str, hook: str, implementation: pluggy.HookImpl, promise: Promise
) -> None:
    """Hold one implementation to its hook: no option that the hook refuses, arguments by name.

    :raises PluginError: naming plugin and hook.
    """
    refused = ["wrapper", "hookwrapper", "optionalhook"]
    if promise.ordered:
        refused += ["tryfirst", "trylast"]
    for option in refused:
        if getattr(implementation, option):
            raise PluginError(
                f"plugin {name!r}: {hook} may not be marked with {option}",
                plugin=name,
                remedy="remove the option; plugins are called one at a time, in the order of "
                "plugins.enable",
            )
    try:
        parameters = inspect.signature(implementation.function).parameters.values()
    except (TypeError, ValueError) as error:
        raise PluginError(f"plugin {name!r}: {hook} has no signature", plugin=name) from error
    for parameter in parameters:
        by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if not by_name or parameter.name not in promise.arguments:
            raise PluginError(
                f"plugin {name!r}: {hook} takes {parameter}, which the hook does not pass",
                plugin=name,
                remedy=f"it passes, by name: {', '.join(promise.arguments)}",
            )


def told(error: BaseException) -> str:
    """An exception of a plugin, for a person."""
    return f"{type(error).__name__}: {error}"


def failure(name: str, hook: str, error: BaseException) -> PluginError:
    """What is reported when a plugin raised in a hook, with the exception as its cause."""
    if isinstance(error, NemoclawError):  # a refusal in the plugin's own words
        what = f"plugin {name!r} refused in {hook}: {error.what}"
        problems = error.problems if isinstance(error, (PluginError, PolicyError)) else ()
        reported = PluginError(
            what,
            plugin=name,
            where=error.where,
            remedy=error.remedy,
            problems=tuple(map(str, problems)),
        )
    else:
        reported = PluginError(f"plugin {name!r} failed in {hook}: {told(error)}", plugin=name)
    reported.__cause__ = error
    return reported


def located(problem: str, lines: Mapping[str, str]) -> str:
    """``KEY: what is wrong``, with the key's line for the key, where it has one."""
    key, _, what = problem.partition(": ")
    return f"{lines[key]}: {what}" if what and key in lines else problem


def place(plugins: PluginPolicy, key: str, name: str) -> str | None:
    """The line of the policy that names a plugin.

    :param key: ``enable`` or ``required``, or ``options`` for the plugin's own table.
    """
    if key == "options":
        found = [written for at, written in plugins.origins.items() if at.startswith(f"{name}.")]
    else:
        names: tuple[str, ...] = getattr(plugins, key)
        found = [
            plugins.origins[at]
            for at in (f"{key}[{index}]" for index, each in enumerate(names) if each == name)
            if at in plugins.origins
        ]
    return str(found[0]) if found else None
