"""The user's settings of this machine: what is true whatever policy an agent is started with.

They are in ``settings.toml`` beside the user's own policies, where no sandbox reaches, and read at
each start of a sandbox that has a gate. A start without such a file imports nothing of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import state
from ..policy.lines import Lines
from ..policy.problems import Problem, dotted, refuse
from ..policy.reader import read_toml
from ..policy.structure import MISFITS, misfits, structure
from . import files, proxies
from .document import SettingsTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..egress.upstream import Upstream


def read(environment: Mapping[str, str], plan: Mapping[str, Any] | None = None) -> Upstream:
    """How this host reaches servers, as the settings say.

    :param environment: nemoclaw's own: for ``proxy = "environment"`` and passwords.
    :param plan: of the sandbox that is about to start: what its agent can write is not believed.
    :raises PolicyError: the file is not valid, or it or one that it names cannot be relied on.
    """
    from nemoclaw_hookspecs import Origin

    path = state.settings_file()
    if plan is not None:
        from ..trust import record_writable

        record_writable(plan)
    content, mode = files.read(path, own=True)
    data, text = read_toml(path, content)
    lines = Lines(text)
    try:
        table = structure(data, SettingsTable)
        return proxies.upstream(table.upstream, environment, shared=bool(mode & 0o044))
    except MISFITS as error:
        refuse(
            [
                Problem(
                    Origin(file=path, line=lines[each.at], key=dotted(each.at) or "-"),
                    each.what,
                    each.remedy,
                )
                for each in misfits(error, SettingsTable)
            ]
        )
