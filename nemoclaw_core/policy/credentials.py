"""The ``[credential.NAME]`` table as it is written: where a secret is, and where it goes."""

from __future__ import annotations

# ruff: noqa: RUF009 - `_key` is `attrs.field`.
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import attrs

from . import hosts
from .patterns import PathPattern
from .problems import Misfit, Misfits, quoted
from .values import EnvironmentName, Network, PluginName, Text

CredentialType = Literal["token", "basic", "aws", "oauth2"]
Grant = Literal["client_credentials", "refresh_token"]
SOURCES = ("from_env", "from_file", "plugin")
"""Exactly one of these says where the secret is."""
AWS_SECRET = "SECRET_ACCESS_KEY"
"""How the variable of an AWS secret ends; those of its other parts have the same beginning."""
AWS_OTHERS = ("ACCESS_KEY_ID", "SESSION_TOKEN")
_TYPES: dict[str, tuple[str, ...]] = {
    "scheme": ("token", "oauth2"),
    "header": ("token", "oauth2"),
    "query": ("token",),
    "body": ("token",),
    "env": ("token", "basic", "oauth2"),
    "username": ("basic",),
    "profile": ("aws",),
    "region": ("aws",),
    "service": ("aws",),
    **dict.fromkeys(
        (
            "grant",
            "token_url",
            "client_id",
            "client_secret_env",
            "client_secret_file",
            "scope",
            "addresses",
        ),
        ("oauth2",),
    ),
}
"""Keys that only some types have."""
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_VISIBLE = re.compile(r"[\x21-\x7e]+", re.ASCII)
"""Header names (RFC 9110 section 5.6.2), and what may stand in a value."""
_FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def _key(doc: str) -> Any:
    return attrs.field(default=None, metadata={"doc": doc})


@attrs.frozen(slots=True, kw_only=True)
class CredentialTable:
    """A secret that is used outside the sandbox and never visible inside. Says where it is."""

    from_env: EnvironmentName | None = _key("Environment variable of the caller that holds it.")
    from_file: PathPattern | None = _key("File that holds it.")
    plugin: PluginName | None = _key("Plugin that fetches it; other keys are the plugin's own.")
    type: CredentialType | None = _key(
        "token (the default), basic (user and password), aws (requests are signed) or oauth2 "
        "(tokens are fetched)."
    )
    env: EnvironmentName | None = _key(
        "Variable in which the agent finds a placeholder; the one of from_env when none is written."
    )
    header: Text | None = _key("Header that it is put into, whatever the agent sends there.")
    scheme: Text | None = _key("What stands before it in the header, for instance Bearer.")
    query: Text | None = _key("Parameter of the query that it is put into.")
    body: bool | None = _key("Replace its placeholder in bodies.")
    plain: bool | None = _key("Send it without TLS too.")
    username: Text | None = _key("User of type basic; else the secret is USER:PASSWORD.")
    profile: Text | None = _key("Section of an AWS credentials file; default when none is written.")
    region: Text | None = _key("AWS region to sign for; else what the agent's signature says.")
    service: Text | None = _key("AWS service to sign for; else what the agent's signature says.")
    grant: Grant | None = _key("How tokens are asked for: client_credentials or refresh_token.")
    token_url: Text | None = _key("Where tokens are asked for: an https URL.")
    client_id: Text | None = _key("The OAuth client.")
    client_secret_env: EnvironmentName | None = _key(
        "With grant refresh_token: variable of the caller that holds the client's secret."
    )
    client_secret_file: PathPattern | None = _key("The same in a file.")
    scope: Text | None = _key("Scopes to ask for, with spaces between.")
    addresses: tuple[Network, ...] | None = _key(
        "Private ranges that the host of token_url may resolve to."
    )
    options: Mapping[str, str] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        found = list(_misfits(self))
        if found:
            raise Misfits(found)

    @property
    def kind(self) -> str:
        """The type, also where none is written."""
        return self.type or "token"

    @property
    def variables(self) -> tuple[str, ...]:
        """The caller's variables that hold a part of it."""
        found = [self.from_env] if self.from_env is not None else []
        if self.kind == "aws" and self.from_env is not None:
            found += [aws_sibling(self.from_env, part) for part in AWS_OTHERS]
        if self.client_secret_env is not None:
            found.append(self.client_secret_env)
        return tuple(found)

    @property
    def files(self) -> tuple[PathPattern, ...]:
        """The files that hold a part of it."""
        return tuple(each for each in (self.from_file, self.client_secret_file) if each is not None)

    @property
    def shown(self) -> tuple[str, ...]:
        """The agent's variables that hold a placeholder."""
        if self.kind == "aws":
            return tuple(f"AWS_{each}" for each in (AWS_SECRET, *AWS_OTHERS))
        name = self.env
        if name is None and self.kind in ("token", "basic"):
            name = self.from_env
        return () if name is None else (name,)


def aws_sibling(variable: str, part: str) -> EnvironmentName:
    """The variable of another part of an AWS credential."""
    return EnvironmentName(variable.removesuffix(AWS_SECRET) + part)


def known_keys() -> tuple[str, ...]:
    """Keys of the table; any other is the plugin's own."""
    return tuple(field.name for field in attrs.fields(CredentialTable) if field.name != "options")


def _misfits(table: CredentialTable) -> Iterator[Misfit]:
    kind = table.kind
    for key, types in _TYPES.items():
        if getattr(table, key) is not None and kind not in types:
            yield Misfit(f"says nothing for type {quoted(kind)}", at=(key,))
    for key in ("from_file", "client_secret_file"):
        path = getattr(table, key)
        if path is not None and (path.wild or path.optional):
            yield Misfit(f"{quoted(path.text)} is a pattern", "name one file", at=(key,))
    if table.header is not None and not _HEADER.fullmatch(table.header):
        yield Misfit(f"{quoted(table.header)} is not the name of a header", at=("header",))
    elif table.header is not None and table.header.lower() in _FRAMING:
        yield Misfit(f"{quoted(table.header)} is not a header for secrets", at=("header",))
    if table.scheme is not None and table.header is None and kind == "token":
        yield Misfit(
            "says nothing without a header", 'add header = "Authorization"', at=("scheme",)
        )
    for key in ("scheme", "username", "client_id", "profile", "region", "service"):
        text = getattr(table, key)
        if text is not None and not _VISIBLE.fullmatch(text):
            yield Misfit("is visible ASCII, without spaces", at=(key,))
    if table.username is not None and ":" in table.username:
        yield Misfit("a user's name holds no colon (RFC 7617)", at=("username",))
    if table.body and not table.shown:
        what = "says nothing without a variable that the agent finds a placeholder in"
        yield Misfit(what, "add env", at=("body",))
    if kind == "aws" and table.from_env is not None and not table.from_env.endswith(AWS_SECRET):
        yield Misfit(
            f"{quoted(table.from_env)} does not end in {AWS_SECRET}",
            "the other parts are looked for beside it, as AWS_ACCESS_KEY_ID is",
            at=("from_env",),
        )
    if kind == "oauth2":
        yield from _oauth2_misfits(table)


def _oauth2_misfits(table: CredentialTable) -> Iterator[Misfit]:
    for key in ("token_url", "client_id"):
        if getattr(table, key) is None:
            yield Misfit(f"the key `{key}` is missing: type oauth2 needs it", at=())
    if table.token_url is not None:
        what = _url_problem(table.token_url)
        if what:
            yield Misfit(f"{quoted(table.token_url)} is not {what}", at=("token_url",))
    secrets = [key for key in ("client_secret_env", "client_secret_file") if getattr(table, key)]
    if secrets and table.grant != "refresh_token":
        what = "the secret of the credential is the client's already"
        yield Misfit(what, 'write it with grant = "refresh_token" alone', at=(secrets[0],))
    elif len(secrets) > 1:
        yield Misfit("the client's secret comes from one place", at=(secrets[1],))


def _url_problem(url: str) -> str:
    """What a URL that tokens are fetched from should be and is not."""
    try:
        parts = urlsplit(url)
        hosts.exact_host(parts.hostname or "")
        good = parts.port != 0 and bool(_VISIBLE.fullmatch(url))
    except (ValueError, Misfit):
        good = False
    if not good or parts.scheme != "https":
        return "an https URL"
    plain = parts.username is None and not parts.fragment
    return "" if plain else "a URL without user and fragment"
