"""The ``credential`` table: what is read, what is refused, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
from nemoclaw_hookspecs import CredentialPolicy

from nemoclaw_core import seal
from nemoclaw_core.policy.context import Context
from nemoclaw_core.policy.locked import locked_values

from .conftest import Ground

HEAD = (
    "version = 1\n[policy.default]\nextends = ['default']\n"
    "[[policy.default.network.allow]]\nhost = 'a.test'\ncredential = 'c'\n[credential.c]\n"
)


def read(ground: Ground, table: str) -> CredentialPolicy:
    return ground.load(HEAD + table).network.credentials["c"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("from_env = 'KEY'", {"env": "KEY", "header": "", "type": "token", "plain": False}),
        ("from_env = 'KEY'\nenv = 'SHOWN'", {"env": "SHOWN"}),
        ("from_file = '~/key'", {"env": "", "header": "authorization", "scheme": "Bearer"}),
        ("from_file = '~/key'\nenv = 'KEY'", {"env": "KEY", "header": ""}),
        ("from_env = 'K'\nheader = 'X-Key'\nplain = true", {"header": "X-Key", "plain": True}),
        ("from_file = '~/key'\nquery = 'key'", {"query": "key", "header": ""}),
        ("from_env = 'K'\nbody = true", {"body": True}),
        (
            "from_env = 'K'\ntype = 'basic'\nusername = 'me'",
            {"header": "authorization", "scheme": "Basic", "username": "me", "env": "K"},
        ),
        (
            "from_env = 'X_AWS_SECRET_ACCESS_KEY'\ntype = 'aws'\nregion = 'eu-west-1'",
            {"env": "", "region": "eu-west-1", "profile": "default"},
        ),
        (
            "from_file = '~/s'\ntype = 'oauth2'\ntoken_url = 'https://a.test/t'\nclient_id = 'i'",
            {"env": "", "header": "authorization", "scheme": "Bearer"},
        ),
        (
            "from_env = 'K'\ntype = 'oauth2'\ntoken_url = 'https://a.test:1/t?x'\nclient_id = 'i'\n"
            "header = 'X-Token'\nenv = 'TOKEN'\nscope = 'a b'\naddresses = ['10.0.0.0/8']",
            {"env": "TOKEN", "header": "X-Token", "scheme": "", "scope": "a b",
             "addresses": ("10.0.0.0/8",)},
        ),
    ],
)  # fmt: skip
def test_what_each_type_comes_to(ground: Ground, table: str, said: dict[str, Any]) -> None:
    found = read(ground, table)
    assert {name: getattr(found, name) for name in said} == said
    assert str(found.origin).endswith("policies.toml:7 credential.c")
    network = ground.load(HEAD + table).network
    assert seal.decode_value(type(network), seal.encode_value(network)) == network


def test_the_parts_of_a_credential_are_looked_for_beside_each_other(ground: Ground) -> None:
    aws = read(ground, "type = 'aws'\nfrom_env = 'X_AWS_SECRET_ACCESS_KEY'")
    assert {part: source.name for part, source in aws.others.items()} == {
        "access_key_id": "X_AWS_ACCESS_KEY_ID",
        "session_token": "X_AWS_SESSION_TOKEN",
    }
    refresh = read(
        ground,
        "type = 'oauth2'\nfrom_file = 'r'\ntoken_url = 'https://a.test'\nclient_id = 'i'\n"
        "grant = 'refresh_token'\nclient_secret_file = '~/s'",
    )
    assert refresh.source.name == f"{ground.work}/r"
    assert refresh.others["client_secret"].name == f"{ground.home}/s"


OAUTH2 = "from_env = 'K'\ntype = 'oauth2'\n"
SLIPS = [
    ("from_env = 'K'\ntype = 'jwt'", "credential.c.type: ", ""),
    ("from_env = 'K'\nheaders = 'x'", "credential.c.headers: unknown key", "header"),
    ("from_file = '~/*.key'", "credential.c.from_file: ", "is a pattern"),
    ("from_file = '~/key?'", "credential.c.from_file: ", "is a pattern"),
    ("from_env = 'K'\nheader = 'a b'", "credential.c.header: ", "not the name of a header"),
    ("from_env = 'K'\nheader = 'Host'", "credential.c.header: ", "not a header for secrets"),
    ("from_env = 'K'\nscheme = 'Bearer'", "credential.c.scheme: ", "without a header"),
    ("from_file = 'k'\nbody = true", "credential.c.body: ", "says nothing without a variable"),
    ("from_env = 'K'\nregion = 'x'", "credential.c.region: ", 'nothing for type "token"'),
    ("from_env = 'K'\ntype = 'basic'\nusername = 'a:b'", "credential.c.username: ", "colon"),
    ("from_env = 'K'\ntype = 'aws'", "credential.c.from_env: ", "SECRET_ACCESS_KEY"),
    ("from_env = 'K'\ntype = 'aws'\nheader = 'x'", "credential.c.header: ", 'for type "aws"'),
    (OAUTH2 + "client_id = 'i'", "credential.c: the key `token_url` is missing", ""),
    (OAUTH2 + "token_url = 'http://a.test/'\nclient_id = 'i'", "credential.c.token_url: ", "https"),
    (OAUTH2 + "token_url = 'https://u@a.test/'\nclient_id = 'i'", "credential.c.token_url: ", ""),
    (OAUTH2 + "token_url = 'https://*.test/'\nclient_id = 'i'", "credential.c.token_url: ", ""),
    (OAUTH2 + "token_url = 'https://a/'\nclient_id = 'i'\nclient_secret_env = 'S'",
     "credential.c.client_secret_env: ", "grant"),
    ("plugin = 'vault'", "credential.c: ", '"vault" is not enabled'),
    ("plugin = 'vault'\nentry = 3", "credential.c.entry: ", "strings"),
    ("from_env = 'K'\n[policy.default.process.environment]\nset = { K = 'x' }",
     "policy.default.process.environment.set.K: ", "would be visible inside"),
    ("from_env = 'K'\nenv = 'E'\n[policy.default.process.environment]\npass = ['E']",
     "policy.default.process.environment.pass[0]: ", "placeholder"),
    ("from_env = 'AWS_SECRET_ACCESS_KEY'\ntype = 'aws'\n[policy.default.process.environment]\n"
     "pass = ['AWS_SESSION_TOKEN']",
     "policy.default.process.environment.pass[0]: ", "would be visible inside"),
    ("from_env = 'K'\n[credential.d]\nfrom_file = 'f'\nenv = 'K'\n"
     "[[policy.default.network.allow]]\nhost = 'b.test'\ncredential = 'd'",
     "credential.d: ", "holds the placeholder" ),
]  # fmt: skip


@pytest.mark.parametrize(("table", "problem", "hint"), SLIPS)
def test_each_slip_is_told_with_its_line(
    ground: Ground, table: str, problem: str, hint: str
) -> None:
    told = ground.refused(HEAD + table)
    lines = [line for line in told.splitlines() if problem in line]
    assert lines, told
    assert hint.replace("holds the", "hold the") in told


def test_a_plugins_keys_are_its_own(ground: Ground) -> None:
    found = read(ground, "plugin = 'mounts'\npath = 'secret/x'\nheader = 'X-Key'")
    assert (found.source.kind, found.source.name) == ("plugin", "mounts")
    assert found.source.options == {"path": "secret/x"}
    assert found.header == "X-Key"


def test_only_what_a_rule_names_is_in_the_network_policy(ground: Ground) -> None:
    policy = ground.load(HEAD + "from_env = 'K'\n[credential.unused]\nfrom_env = 'U'\n")
    assert set(policy.network.credentials) == {"c"}


def test_a_file_of_a_client_secret_is_denied_too(ground: Ground) -> None:
    (ground.home / "s").write_text("secret")
    policy = ground.load(
        HEAD.replace("extends = ['default']", "filesystem.read = ['~']")
        + OAUTH2
        + "token_url = 'https://a/'\nclient_id = 'i'\ngrant = 'refresh_token'\n"
        "client_secret_file = '~/s'\n"
    )
    denied = [rule.path for rule in policy.filesystem.rules if rule.access == "deny"]
    assert f"{ground.home}/s" in denied


def test_the_files_of_credentials_are_locked_at_the_start(ground: Ground) -> None:
    def locked(table: str) -> str | None:
        file = ground.write(HEAD + table)
        context: Context = ground.context
        return locked_values(str(file), context).get("credential.from_file")

    assert locked("from_env = 'K'") is None
    assert locked("from_file = '~/key'") == "~/key"
