"""Finding plugins, holding them to their contract, and calling them one at a time.

pluggy's own loader imports whatever is installed, and its multicall lets one implementation wrap
or precede another. Neither may happen here: a plugin that the policy does not enable is never
imported, the order of ``plugins.enable`` is the order of calls, and each answer or failure stays
with the name of the plugin that gave it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import attrs
import pluggy
from nemoclaw_hookspecs import specs, version
from nemoclaw_hookspecs.errors import NemoclawError, PluginError, PolicyError
from nemoclaw_hookspecs.host import Host
from nemoclaw_hookspecs.policy import PluginPolicy, Policy
from nemoclaw_hookspecs.seal import Layer

from . import imports
from .contract import (
    Promise,
    check_implementation,
    check_marks,
    check_version,
    failure,
    located,
    nearest,
    place,
    told,
)
from .discovery import Installed, discover

__all__ = ["Installed", "Outcome", "PluginManager", "discover"]

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_RESERVED = "core"


@attrs.frozen(slots=True, kw_only=True)
class Outcome:
    """One plugin's answer to one hook: a value of the type that the hook promises, or an error."""

    plugin: str
    value: Any = None
    error: PluginError | None = None


class PluginManager(pluggy.PluginManager):
    """The plugins of one policy.

    :param api: the version of the contract that is offered, ``(major, minor)``.
    """

    def __init__(self, api: tuple[int, int] = version.API) -> None:
        super().__init__(specs.PROJECT)
        self.add_hookspecs(specs)
        # Nobody may reach the implementations by pluggy's multicall, which forgets who said what.
        self.add_hookcall_monitoring(_refuse_multicall, lambda *_: None)
        self._api = api
        self._installed: dict[str, Installed] = {}
        self._promises = {name: Promise.of(name) for name in vars(self.hook)}

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the plugins in use, in the order in which they are called."""
        return tuple(name for name, plugin in self.list_name_plugin() if plugin is not None)

    def hooks_of(self, name: str) -> tuple[str, ...]:
        """The hooks that a loaded plugin implements."""
        return tuple(sorted(hook for hook, _ in self._implementations(name)))

    def load(self, plugins: PluginPolicy) -> None:
        """Load exactly the plugins that the policy enables, in its order.

        :raises PluginError: one of them is missing, cannot be imported or breaks the contract.
        :raises PolicyError: a plugin refuses its own table of the policy, or there is a table for
            something that is not installed.
        """
        failures = tuple(self.attempt(plugins).values())
        if not failures:
            return
        if len(failures) == 1:
            raise failures[0]
        problems = tuple(map(str, failures))
        if all(isinstance(failure, PolicyError) for failure in failures):
            raise PolicyError("the tables of plugins are not valid:", problems=problems)
        raise PluginError(
            "\n  ".join((f"{len(failures)} plugins cannot be used:", *problems)),
            plugin=next(failure.plugin for failure in failures if isinstance(failure, PluginError)),
        )

    def attempt(self, plugins: PluginPolicy) -> dict[str, PluginError | PolicyError]:
        """As :meth:`load`, but return what failed, by name, and keep what could be loaded.

        For showing a person what is wrong. Never start an agent on the result.
        """
        available: dict[str, list[Installed]] = {}
        for installed in discover():
            available.setdefault(installed.name, []).append(installed)
        failures: dict[str, PluginError | PolicyError] = {}
        for name in dict.fromkeys(plugins.enable):
            try:
                self._load(name, available, plugins)
            except (PluginError, PolicyError) as error:
                failures[name] = error
        for name in plugins.options:
            if name not in available and name not in plugins.enable:
                failures[name] = PolicyError(
                    f"there is a table for the plugin {name!r}, which is not installed",
                    where=place(plugins, "options", name) or f"plugins.{name}",
                    remedy=nearest(name, available) or "install it, or remove the table",
                )
        return failures

    def _load(
        self, name: str, available: Mapping[str, list[Installed]], plugins: PluginPolicy
    ) -> None:
        where = place(plugins, "enable", name)
        if not _NAME.fullmatch(name) or name == _RESERVED:
            raise PluginError(f"{name!r} cannot be a plugin's name", plugin=name, where=where)
        found = available.get(name, [])
        if len(found) != 1:
            raise PluginError(
                f"plugin {name!r} is provided by {' and by '.join(map(str, found))}"
                if found
                else f"plugin {name!r} is not installed",
                plugin=name,
                where=where,
                remedy="uninstall all but one of them"
                if found
                else nearest(name, available)
                # Never a bare name to ask an index for: anybody may have registered it there.
                or "install it from where you got nemoclaw (docs/install.md), or take it off "
                "plugins.enable",
            )
        self._installed[name] = found[0]
        if found[0].entry_point.dist is not None:
            imports.let_in(found[0].entry_point.dist)
        try:
            plugin = found[0].entry_point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin {name!r} ({found[0]}) cannot be imported: {told(error)}",
                plugin=name,
                where=where,
                remedy=f"reinstall {found[0].distribution}, or take it off plugins.enable",
            ) from error
        self.register(plugin, name)
        try:
            self._validate_options(plugin, name, plugins)
        except NemoclawError:
            self.unregister(name=name)
            raise

    def _validate_options(self, plugin: object, name: str, plugins: PluginPolicy) -> None:
        options = plugins.options.get(name, {})
        where = place(plugins, "options", name) or f"plugins.{name}"
        validate = getattr(plugin, "validate_options", None)
        if validate is None:
            if options:
                raise PolicyError(
                    f"plugin {name!r} takes no options",
                    where=where,
                    remedy=f"remove the table [plugins.{name}]",
                )
            return
        try:
            answer = validate(MappingProxyType(dict(options)))
        except PolicyError as error:
            lines = {key: str(plugins.origins.get(f"{name}.{key}", where)) for key in options}
            # A plugin knows its keys and not their lines.
            error.where = where if error.where is None else lines.get(error.where, error.where)
            error.problems = tuple(located(each, lines) for each in error.problems)
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin {name!r} failed in validate_options: {told(error)}",
                plugin=name,
                where=where,
            ) from error
        if answer is not None:
            raise PluginError(
                f"validate_options of plugin {name!r} must return None or raise PolicyError",
                plugin=name,
            )

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Take a plugin in, after holding it to the contract.

        :raises PluginError: its contract version does not fit, or one of its implementations is
            unknown, ambiguous, marked on something that is no function, or takes an option that
            the hook refuses. The plugin is then not registered.
        """
        name = name or self.get_canonical_name(plugin)
        check_version(plugin, name, self._api, str(self._installed.get(name, "not installed")))
        try:
            check_marks(plugin, name, self._promises)
            super().register(plugin, name)
        except PluginError:
            raise
        except Exception as error:  # pluggy's refusals, or the plugin's own code while it is read
            raise PluginError(
                f"plugin {name!r} cannot be registered: {told(error)}", plugin=name
            ) from error
        try:
            self._check_implementations(name)
        except PluginError:
            self.unregister(name=name)
            raise
        return name

    def _check_implementations(self, name: str) -> None:
        found = self._implementations(name)
        if not found:
            raise PluginError(f"plugin {name!r} implements no hook", plugin=name)
        for hook, implementation in found:
            if hook not in self._promises:
                raise PluginError(
                    f"plugin {name!r} implements an unknown hook {hook!r}",
                    plugin=name,
                    remedy=nearest(hook, self._promises)
                    or "see docs/hooks.md for the hooks that there are",
                )
            if [other for other, _ in found].count(hook) > 1:
                raise PluginError(f"plugin {name!r} implements {hook} twice", plugin=name)
            check_implementation(name, hook, implementation, self._promises[hook])

    def _implementations(self, name: str) -> list[tuple[str, pluggy.HookImpl]]:
        return [
            (hook, implementation)
            for hook, caller in vars(self.hook).items()
            for implementation in caller.get_hookimpls()
            if implementation.plugin_name == name
        ]

    def load_setuptools_entrypoints(self, group: str, name: str | None = None) -> int:
        """Refused: it would import every plugin that is installed."""
        raise TypeError("use load(), which imports only what the policy enables")

    def each(self, hook: str, **arguments: object) -> list[Outcome]:
        """Call a hook of every plugin, one after the other, whatever the others did.

        Awaitables that a hook may return are handed on as they are.

        :returns: one outcome for each plugin that implements it, in the order of
            ``plugins.enable``.
        """
        return [self._call(hook, found, arguments) for found in self._ordered(hook, arguments)]

    def one(self, plugin: str, hook: str, **arguments: object) -> Outcome | None:
        """Call one plugin's hook. None when it does not implement it."""
        for found in self._ordered(hook, arguments):
            if found.plugin_name == plugin:
                return self._call(hook, found, arguments)
        return None

    def _call(self, hook: str, found: pluggy.HookImpl, arguments: Mapping[str, object]) -> Outcome:
        name = found.plugin_name
        try:
            passed = inspect.signature(found.function).parameters
            value = found.function(**{key: arguments[key] for key in passed})
        except (Exception, SystemExit) as error:
            return Outcome(plugin=name, error=failure(name, hook, error))
        problem = self._promises[hook].problem(value)
        if problem:
            broken = PluginError(f"plugin {name!r}: {hook} {problem}", plugin=name)
            return Outcome(plugin=name, error=broken)
        return Outcome(plugin=name, value=value)

    def _ordered(self, hook: str, arguments: Iterable[str]) -> list[pluggy.HookImpl]:
        if set(arguments) != set(self._promises[hook].arguments):
            raise TypeError(f"{hook} takes {', '.join(self._promises[hook].arguments)}")
        implementations = {
            implementation.plugin_name: implementation
            for implementation in getattr(self.hook, hook).get_hookimpls()
        }
        # Ordering options survive registration only where no decision hangs on the order.
        return sorted(
            (implementations[name] for name in self.loaded if name in implementations),
            key=lambda found: bool(found.trylast) - bool(found.tryfirst),
        )

    def call_layer(
        self, hook: str, policy: Policy, host: Host
    ) -> list[tuple[str, Layer | PluginError | None]]:
        """What each plugin contributes to a plan: ``(plugin, layer | error | None)``."""
        return [
            (outcome.plugin, outcome.error or outcome.value)
            for outcome in self.each(hook, policy=policy, host=host)
        ]


def _refuse_multicall(hook: str, *_: object) -> NoReturn:
    raise TypeError(f"call each({hook!r}, ...), which keeps the plugins' answers apart")
