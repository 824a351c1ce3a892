"""What the settings say, for people: never a password, nor anything that it was made into."""

from __future__ import annotations

import os
from collections.abc import Mapping

import attrs
from nemoclaw_hookspecs.errors import NemoclawError

from .. import state
from . import read
from .proxies import in_environment


@attrs.frozen(slots=True, kw_only=True)
class SettingsReport:
    """The settings file, or that there is none."""

    file: str
    """Empty: there is none."""
    lines: tuple[str, ...] = ()
    error: NemoclawError | None = None
    """Why nothing with a gate would start."""


def report(environment: Mapping[str, str]) -> SettingsReport:
    """Read the settings as a start would."""
    path = state.settings_file()
    if not os.path.lexists(path):
        return SettingsReport(file="", lines=tuple(_unused(environment, None)))
    try:
        found = read(environment)
    except NemoclawError as error:
        return SettingsReport(file=path, error=error)
    lines = [f"upstream proxy: {found.proxy or 'none, servers are reached directly'}"]
    if found.proxy is not None:
        lines[0] += ", with a password" if found.proxy.authorization else ""
        direct = (*found.direct_hosts, *found.direct_ranges)
        lines += [f"reached directly: {', '.join(direct)}"] if direct else []
    if found.authorities:
        count = found.authorities.count("-----BEGIN CERTIFICATE-----")
        lines.append(f"certificate authorities besides the system's: {count}")
    return SettingsReport(file=path, lines=(*lines, *_unused(environment, found.proxy)))


def _unused(environment: Mapping[str, str], proxy: object) -> list[str]:
    if proxy is not None or in_environment(environment) is None:
        return []
    return [
        "HTTPS_PROXY of this environment is not used: for that, write "
        f'proxy = "environment" below [upstream] in {state.settings_file()}'
    ]
