"""Which plugins are installed, from metadata alone."""

from __future__ import annotations

import importlib.metadata

import attrs
from nemoclaw_hookspecs.errors import PluginError
from nemoclaw_hookspecs.specs import ENTRY_POINT_GROUP


@attrs.frozen(slots=True, kw_only=True)
class Installed:
    """What the metadata of an installed distribution says about a plugin. Nothing was imported."""

    name: str
    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint = attrs.field(repr=False)

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


def discover() -> tuple[Installed, ...]:
    """Every plugin that is installed, by name, without importing any.

    :raises PluginError: an installed distribution's metadata cannot be read.
    """
    try:
        found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
        plugins = [
            Installed(
                name=entry.name,
                distribution=entry.dist.name if entry.dist else "unknown",
                version=entry.dist.version if entry.dist else "unknown",
                entry_point=entry,
            )
            for entry in found
        ]
    except Exception as error:
        raise PluginError(
            f"the metadata of the installed distributions cannot be read: {error!r}",
            plugin="",
            where=_unreadable(),
            remedy="reinstall or remove that distribution",
        ) from error
    return tuple(sorted(plugins, key=lambda plugin: (plugin.name, plugin.distribution)))


def _unreadable() -> str | None:
    for distribution in importlib.metadata.distributions():
        try:
            _ = distribution.entry_points, distribution.name, distribution.version
        except Exception:
            return str(getattr(distribution, "_path", distribution))
    return None
