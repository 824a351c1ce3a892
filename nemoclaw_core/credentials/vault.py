"""Secrets and placeholders of one start.

On the path of a start: see the import rule in ``nemoclaw_core/launcher/__init__.py``.
"""

from __future__ import annotations

import time

from nemoclaw_hookspecs.errors import PluginError, UsageError

from . import placeholders
from .sources import Secrets, hide_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from typing import Any

    Encoded = Mapping[str, Any]
    Fetch = Callable[[Encoded], str]

_LIFETIME = 300.0
"""Seconds for which a plugin's answer is used."""
_AWS_PARTS = ("access_key_id", "secret_access_key", "session_token")


class Vault:
    """What the credentials of a policy are, and what the agent sees in their place.

    Credentials are named as in the policy; each has parts by name, mostly one: ``secret``. They
    come as encoded values of ``nemoclaw_hookspecs.CredentialPolicy``.

    :param environment: of whoever started nemoclaw.
    :param fetch: asks a credential's plugin for its secret; raises PluginError.
    """

    def __init__(self, environment: Mapping[str, str], fetch: Fetch | None = None) -> None:
        self._secrets = Secrets(environment)
        self._fetch = fetch
        self._fetched: dict[str, tuple[Any, float, str]] = {}
        self._placeholders: dict[str, dict[str, str]] = {}

    def __repr__(self) -> str:
        return "Vault()"

    def variables(self, credentials: Mapping[str, Encoded]) -> dict[str, str]:
        """Variables for the agent, with a placeholder in each. Reads every secret, for its shape.

        :raises UsageError: a secret cannot be had.
        """
        found: dict[str, str] = {}
        for name, credential in credentials.items():
            if name not in self._placeholders:
                # Of two threads that start an agent at once, one makes what both use.
                shaped = _shaped(credential, self.secrets(credential))
                self._placeholders.setdefault(name, shaped)
            found.update(_shown(credential, self._placeholders[name]))
        return found

    def refuse_to_replace(
        self, credentials: Mapping[str, Encoded], given: Mapping[str, str] | None
    ) -> None:
        """See that no variable that is given for a start takes the place of a placeholder: it would
        be the secret itself, mostly.

        :raises UsageError: one does.
        """
        for name, credential in credentials.items():
            for variable in _shown(credential, self.placeholders(credential)):
                if given and variable in given:
                    raise UsageError(
                        f"{variable} holds the placeholder of the credential {name!r}",
                        where="{file}:{line} {key}".format(**credential["origin"]),
                        remedy="leave it out of the command: the secret is put in outside",
                    )

    def placeholders(self, credential: Encoded) -> dict[str, str]:
        """The placeholders of a credential by part; also of one that came with a reload."""
        name = credential["name"]
        if name not in self._placeholders:
            try:
                secrets = self.secrets(credential)
            except (UsageError, PluginError):
                secrets = {}
            self._placeholders.setdefault(name, _shaped(credential, secrets))
        return self._placeholders[name]

    def known(self) -> dict[str, str]:
        """Whose each placeholder is that was made since the start, also where the credential is in
        the policy no more: the agent still has it."""
        return {text: name for name, parts in self._placeholders.items() for text in parts.values()}

    def secrets(self, credential: Encoded) -> dict[str, str]:
        """The secrets of a credential by part, as they are now. Waits for a plugin.

        :raises UsageError: one cannot be had.
        :raises PluginError: its plugin does not give it.
        """
        where = "{file}:{line} {key}".format(**credential["origin"])
        text = self._text(credential, where)
        others = credential["others"]
        if credential["type"] != "aws":
            parts = {"secret": text}
            if "client_secret" in others:
                parts["client_secret"] = self._secrets.read(others["client_secret"], where)
            return parts
        if credential["source"]["kind"] == "environment":
            parts = {
                "access_key_id": self._secrets.read(others["access_key_id"], where),
                "secret_access_key": text,
            }
            token = self._secrets.read(others["session_token"], where, optional=True)
            return {**parts, "session_token": token} if token else parts
        parts = _section(text, credential["profile"])
        for part in _AWS_PARTS[:2]:
            if not parts.get(part):
                raise UsageError(
                    f"there is no aws_{part} in the section {credential['profile']!r} of "
                    f"{credential['source']['name']}",
                    where=where,
                    remedy="write it as the AWS command line does, or name another profile",
                )
        return parts

    def waits(self, credential: Encoded) -> bool:
        """Whether the secrets can be had only by asking a plugin, now."""
        return credential["source"]["kind"] == "plugin" and self._answer(credential) is None

    def _answer(self, credential: Encoded) -> str | None:
        known = self._fetched.get(credential["name"])
        if known is None or known[0] != credential["source"] or time.monotonic() > known[1]:
            return None
        return known[2]

    def _text(self, credential: Encoded, where: str) -> str:
        source = credential["source"]
        if source["kind"] != "plugin" or self._fetch is None:
            return self._secrets.read(source, where)
        hide_memory()
        text = self._answer(credential)
        if text is None:
            text = self._fetch(credential)
            self._fetched[credential["name"]] = (source, time.monotonic() + _LIFETIME, text)
        return text

    def withdraw(self, environment: MutableMapping[str, str]) -> None:
        """Take the variables of secrets out of what child processes will inherit."""
        self._secrets.withdraw(environment)


def _shaped(credential: Encoded, secrets: dict[str, str]) -> dict[str, str]:
    if credential["type"] == "aws":
        return placeholders.aws(secrets or {"access_key_id": "AKIA"})
    if credential["type"] == "oauth2" or not secrets:
        return {"secret": placeholders.fixed()}
    return {"secret": placeholders.like(secrets["secret"])}


def _shown(credential: Encoded, made: dict[str, str]) -> dict[str, str]:
    if credential["type"] == "aws":
        return {f"AWS_{part.upper()}": text for part, text in made.items()}
    return {credential["env"]: made["secret"]} if credential["env"] else {}


def _section(text: str, profile: str) -> dict[str, str]:
    """A section of a file as the AWS command line keeps it (``~/.aws/credentials``)."""
    found: dict[str, str] = {}
    inside = False
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            inside = stripped[1:-1].strip().removeprefix("profile ").strip() == profile
        elif inside and not stripped.startswith(("#", ";")) and "=" in stripped:
            key, _, value = stripped.partition("=")
            part = key.strip().lower().removeprefix("aws_")
            if part in _AWS_PARTS:
                found[part] = value.strip()
    return found
