"""The settings file as it is written: one attrs class a table, one field a key."""

from __future__ import annotations

import attrs

from ..policy.values import EnvironmentName, Text


@attrs.frozen(slots=True, kw_only=True)
class PasswordTable:
    """Where a password is: in one of these places."""

    from_env: EnvironmentName | None = None
    """Variable of nemoclaw's own environment."""
    from_file: Text | None = None
    """File that holds it and nothing else."""


@attrs.frozen(slots=True, kw_only=True)
class UpstreamTable:
    """How this host reaches servers."""

    proxy: Text | None = attrs.field(default=None, repr=False)
    """``http://[USER[:PASSWORD]@]HOST:PORT``, or ``environment``."""
    proxy_password: PasswordTable | None = None
    """In the place of one in ``proxy``."""
    no_proxy: tuple[Text, ...] | None = None
    """Host patterns, addresses and ranges that are reached directly."""
    ca_file: Text | None = None
    """PEM of certificate authorities besides the system's."""


@attrs.frozen(slots=True, kw_only=True)
class SettingsTable:
    """The whole file."""

    upstream: UpstreamTable | None = None
