"""The certificate authorities of a start: made by plugins, trusted inside, known nowhere else."""

from __future__ import annotations

import re
from typing import Any

from nemoclaw_hookspecs.errors import PluginError

from .entries import load_entry

_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n?"
)


def fill(plan: dict[str, Any], also: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan with its generated files filled in, and the authority of each plugin.

    :param also: PEM of authorities that are to be trusted besides the host's.
    :raises PluginError: an authority cannot be made, or the host's file cannot be read.
    """
    made = {
        service["plugin"]: load_entry(service["plugin"], service["authority"])()
        for service in plan["services"]
        if service["authority"]
    }
    steps = [
        {**step, "generated": "", "content": _content(step, made[step["plugin"]], also)}
        if step.get("generated")
        else step
        for step in plan["steps"]
    ]
    return {**plan, "steps": steps}, made


def _content(step: dict[str, Any], authority: Any, also: str) -> str:
    own = authority.ca_certificate.decode("ascii")
    try:
        with open(step["target"], encoding="utf-8", errors="replace") as file:
            hosts = file.read()
    except OSError as error:
        raise PluginError(
            f"the host's certificate authorities cannot be read: {error.strerror}",
            plugin=step["plugin"],
            where=step["target"],
        ) from None
    # Certificates alone: the file may hold comments in any language.
    return "\n".join((*_CERTIFICATE.findall(hosts), *_CERTIFICATE.findall(also), own))
