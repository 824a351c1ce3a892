"""Ask plugins for secrets (hook ``fetch_credential``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs import CredentialPolicy
from nemoclaw_hookspecs.errors import PluginError

from .. import seal

if TYPE_CHECKING:
    from ..plugins import PluginManager


def fetch(plugins: Callable[[], PluginManager], credential: dict[str, Any]) -> str:
    """The secret of a credential, from the plugin that its table names.

    :param plugins: gives those that the policy enables, loaded.
    :raises PluginError: there is none to be had.
    """
    policy = seal.decode_value(CredentialPolicy, credential)
    plugin, where = policy.source.name, str(policy.origin)
    outcome = plugins().one(plugin, "fetch_credential", credential=policy)
    if outcome is None:
        raise PluginError(f"plugin {plugin!r} fetches no credentials", plugin=plugin, where=where)
    if outcome.error is not None:
        raise outcome.error
    if not outcome.value:
        what = f"plugin {plugin!r} has no credential {policy.name!r}"
        raise PluginError(what, plugin=plugin, where=where)
    return str(outcome.value)
