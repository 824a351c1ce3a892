"""Secrets are read where the policy says, anew when they change, and shown to nobody."""

from __future__ import annotations

import copy
import os
import pickle
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nemoclaw_hookspecs import CredentialPolicy, SecretSource
from nemoclaw_hookspecs.errors import PluginError, UsageError

from nemoclaw_core import seal
from nemoclaw_core.credentials.fetching import fetch
from nemoclaw_core.credentials.sources import Secrets
from nemoclaw_core.credentials.vault import Vault
from nemoclaw_core.launcher import kernel
from nemoclaw_core.written import record_writable

from .conftest import KEY, credential

WHERE = "p.toml:7 credential.api"


@pytest.fixture(autouse=True)
def _dumpable() -> None:
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)


def of_file(path: Path) -> dict[str, object]:
    return seal.encode_value(SecretSource(kind="file", name=str(path)))


def of_variable(name: str) -> dict[str, object]:
    return seal.encode_value(SecretSource(kind="environment", name=name))


def test_a_file_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\r\n")
    secrets = Secrets({})
    assert secrets.read(of_file(file), WHERE) == KEY
    file.write_text("another")
    assert secrets.read(of_file(file), WHERE) == "another"
    fresh = tmp_path / "fresh"
    fresh.write_text("renamed")
    fresh.rename(file)
    assert secrets.read(of_file(file), WHERE) == "renamed"
    file.unlink()
    with pytest.raises(UsageError, match="no such file"):
        secrets.read(of_file(file), WHERE)


def test_a_link_that_an_agent_can_have_planted_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: in the place of a token, a link to any file of the user's, which would be sent to
    the rule's server; also while a sandbox runs, when the token is read anew."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    private, work = tmp_path / "id_ed25519", tmp_path / "work"
    private.write_text("the user's own")
    work.mkdir()
    token, own = work / "token", tmp_path / "own"
    own.symlink_to(private)
    token.write_text(KEY)
    secrets = Secrets({})
    assert secrets.read(of_file(own), WHERE) == "the user's own"  # no agent can make that one
    assert secrets.read(of_file(token), WHERE) == KEY
    token.unlink()
    token.symlink_to(private)
    assert Path(token).read_text() == "the user's own"
    bind = {"op": "bind_mount", "kind": "directory", "source": str(work), "target": str(work)}
    record_writable({"steps": [{"op": "enter_view"}, {**bind, "read_only": False}]})
    with pytest.raises(UsageError, match="is not used: an agent may have made it") as caught:
        secrets.read(of_file(token), WHERE)
    assert caught.value.where == WHERE
    with pytest.raises(UsageError, match="a sandbox could write"):
        Secrets({}).read(of_file(token), WHERE)


def test_a_file_that_cannot_be_one_is_told_with_its_line(tmp_path: Path) -> None:
    wrong = {name: tmp_path / name for name in ("empty", "binary", "large", "open", "folder")}
    wrong["empty"].write_text("\n")
    wrong["binary"].write_bytes(b"\xff\xfe")
    wrong["large"].write_text("x" * 70_000)
    wrong["open"].write_text(KEY)
    wrong["open"].chmod(0o666)
    wrong["folder"].mkdir()
    os.mkfifo(tmp_path / "pipe")
    wrong["pipe"] = tmp_path / "pipe"
    for path in wrong.values():
        with pytest.raises(UsageError) as error:
            Secrets({}).read(of_file(path), WHERE)
        assert error.value.where == WHERE
        assert str(path) in error.value.what
        assert KEY not in str(error.value)


def test_a_variable_counts_as_it_was_and_is_taken_from_children() -> None:
    environment = {"API_KEY": KEY, "PATH": "/bin"}
    secrets = Secrets(environment)
    assert secrets.read(of_variable("API_KEY"), WHERE) == KEY
    secrets.withdraw(environment)
    assert environment == {"PATH": "/bin"}
    assert secrets.read(of_variable("API_KEY"), WHERE) == KEY
    with pytest.raises(UsageError, match="OTHER is not set"):
        secrets.read(of_variable("OTHER"), WHERE)
    assert secrets.read(of_variable("OTHER"), WHERE, optional=True) == ""


def test_who_reads_a_secret_leaves_no_core_dump() -> None:
    get_dumpable = 3
    assert kernel.prctl(get_dumpable) == 1
    Secrets({"API_KEY": KEY}).read(of_variable("API_KEY"), WHERE)
    assert kernel.prctl(get_dumpable) == 0


def test_nothing_shows_a_secret() -> None:
    secrets = Secrets({"API_KEY": KEY})
    secrets.read(of_variable("API_KEY"), WHERE)
    vault = Vault({"API_KEY": KEY})
    vault.variables({"api": seal.encode_value(credential(env="API_KEY"))})
    for each in (secrets, vault):
        assert KEY not in repr(each) + str(each)
    with pytest.raises(TypeError):
        pickle.dumps(secrets)
    with pytest.raises(TypeError):
        copy.copy(secrets)


def test_an_aws_credential_comes_from_three_variables_or_a_section_of_a_file(
    tmp_path: Path,
) -> None:
    others = {
        part: SecretSource(kind="environment", name=f"S_AWS_{part.upper()}")
        for part in ("access_key_id", "session_token")
    }
    policy = credential(type="aws", variable="S_AWS_SECRET_ACCESS_KEY", others=others)
    environment = {"S_AWS_SECRET_ACCESS_KEY": "secret", "S_AWS_ACCESS_KEY_ID": "AKIA1"}
    vault = Vault(environment)
    encoded = seal.encode_value(policy)
    assert vault.secrets(encoded) == {"access_key_id": "AKIA1", "secret_access_key": "secret"}
    shown = vault.variables({"api": encoded})
    assert set(shown) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    environment["S_AWS_SESSION_TOKEN"] = "token"
    assert Vault(environment).secrets(encoded)["session_token"] == "token"
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = A\n# no = no\naws_secret_access_key=B\n"
        "[profile work]\naws_access_key_id=C\naws_secret_access_key = D==\naws_session_token=E\n"
    )
    source = SecretSource(kind="file", name=str(file))
    for profile, parts in (("default", "AB"), ("work", "C,D==,E")):
        encoded = seal.encode_value(credential(type="aws", source=source, profile=profile))
        split = parts.split(",") if "," in parts else list(parts)
        assert list(Vault({}).secrets(encoded).values()) == split
    with pytest.raises(UsageError, match="no aws_access_key_id in the section 'none'"):
        Vault({}).secrets(seal.encode_value(credential(type="aws", source=source, profile="none")))


def of_plugin() -> dict[str, object]:
    source = SecretSource(kind="plugin", name="vault", options={"entry": "x"})
    return seal.encode_value(credential(source=source))


def test_a_plugin_is_asked_once_in_a_while_and_not_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    now = [0.0]

    def answer(encoded: Any) -> str:
        asked.append(encoded["source"]["options"])
        if len(asked) == 3:
            raise PluginError("plugin 'vault' failed", plugin="vault")
        return f"{KEY}{len(asked)}"

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    vault = Vault({}, answer)
    for at, expected in ((0, "1"), (299, "1"), (301, "2")):
        now[0] = float(at)
        assert vault.secrets(of_plugin()) == {"secret": KEY + expected}
    assert asked == [{"entry": "x"}] * 2
    now[0] = 700.0
    with pytest.raises(PluginError):
        vault.secrets(of_plugin())
    assert vault.secrets(of_plugin()) == {"secret": KEY + "4"}


class Manager:
    """A plugin manager whose plugin answers, or not."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def one(self, plugin: str, hook: str, *, credential: CredentialPolicy) -> Any:
        assert (plugin, hook, credential.source.options) == (
            "vault", "fetch_credential", {"entry": "x"},
        )  # fmt: skip
        return self.outcome


def test_a_plugins_answer_is_the_secret_or_an_error_with_the_line() -> None:
    def ask(outcome: Any) -> str:
        return fetch(lambda: Manager(outcome), of_plugin())  # type: ignore[arg-type, return-value]

    assert ask(SimpleNamespace(error=None, value=KEY)) == KEY
    failed = PluginError("plugin 'vault' failed in fetch_credential: KeyError", plugin="vault")
    cases = ((None, "fetches no"), (SimpleNamespace(error=None, value=None), "has no credential"),
             (SimpleNamespace(error=failed, value=None), "KeyError"))  # fmt: skip
    for outcome, why in cases:
        with pytest.raises(PluginError, match=why):
            ask(outcome)
