"""Functions of plugins that a plan names: a network service, a certificate authority."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from nemoclaw_hookspecs.errors import PluginError

from . import imports


def load_entry(plugin: str, entry: str) -> Any:
    """What ``MODULE:FUNCTION`` names.

    :param plugin: whose it is; its distribution's directories are looked in.
    :raises PluginError: it cannot be imported, or is not there.
    """
    module, _, function = entry.partition(":")
    try:
        try:
            found = import_module(module)
        except ModuleNotFoundError:
            if not _let_in(plugin):
                raise
            found = import_module(module)
        return getattr(found, function)
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"{entry} of plugin {plugin!r} cannot be loaded: {error}",
            plugin=plugin,
            remedy="install the plugin again",
        ) from error


def _let_in(plugin: str) -> bool:
    """Look where the plugin's distribution says, if the command has left that out."""
    if not imports.left_out():
        return False
    from .discovery import discover

    for each in discover():
        if each.name == plugin and each.entry_point.dist is not None:
            imports.let_in(each.entry_point.dist)
            return True
    return False
