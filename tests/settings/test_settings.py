"""Claims about the user's settings: read strictly, and only from files that nobody else wrote."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs.errors import PolicyError

from nemoclaw_core import settings, written
from nemoclaw_core.cli import doctor
from nemoclaw_core.settings.report import report

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    for variable, name in (
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_STATE_HOME", "state"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_RUNTIME_DIR", "run"),
    ):
        folder = tmp_path / name / "nemoclaw"
        folder.mkdir(parents=True, mode=0o700)
        monkeypatch.setenv(variable, str(folder.parent))

    def put(text: str) -> Path:
        file = tmp_path / "config/nemoclaw/settings.toml"
        file.write_text(text)
        file.chmod(0o600)
        return file

    return put


def refusal(environment: Mapping[str, str] | None = None, plan: Any = None) -> str:
    with pytest.raises(PolicyError) as caught:
        settings.read(environment or {}, plan)
    return str(caught.value)


def test_a_proxy_with_a_password_and_exceptions(write: Write) -> None:
    write(
        '[upstream]\nproxy = "http://me:hunter%402@Proxy.Corp:3128"\n'
        'no_proxy = ["*.corp.example", "10.0.0.0/8", "192.0.2.7"]\n'
    )
    found = settings.read({})
    assert found.proxy is not None
    assert str(found.proxy) == "http://proxy.corp:3128"
    assert base64.b64decode(found.proxy.authorization.split()[1]) == b"me:hunter@2"
    assert found.direct_hosts == ("*.corp.example",)
    assert found.direct_ranges == ("10.0.0.0/8", "192.0.2.7")
    assert found.proxy.authorization not in repr(found)


def test_the_password_may_be_elsewhere(write: Write, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    proxy = '[upstream]\nproxy = "http://me@p:1"\nproxy_password = '
    expected = "Basic " + base64.b64encode(b"me:hunter2").decode()
    write(proxy + f"{{ from_file = '{secret}' }}\n")
    assert settings.read({}).proxy.authorization == expected  # type: ignore[union-attr]
    write(proxy + "{ from_env = 'CORP' }\n")
    assert settings.read({"CORP": "hunter2"}).proxy.authorization == expected  # type: ignore[union-attr]
    assert "variable CORP is not set" in refusal()
    secret.chmod(0o644)
    write(proxy + f"{{ from_file = '{secret}' }}\n")
    assert "others can read it" in refusal()
    write(proxy + "{}\n")
    assert "exactly one place" in refusal()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[upstrem]\n", ':1 upstrem: unknown key "upstrem" (did you mean upstream?)'),
        ('[upstream]\nprox = "http://a:1"\n', ':2 upstream.prox: unknown key "prox" (did you mean'),
        ("[upstream]\n\nproxy = 3128\n", ":3 upstream.proxy: is an integer, not a string"),
        ("[upstream]\nproxy = 'socks5://a:1'\n", ":2 upstream.proxy: is not the address of an"),
        ("[upstream]\nproxy = 'http://me:hunter2@a'\n", "is not the address of an HTTP proxy"),
        ("[upstream]\nproxy = 'http://a..b:80'\n", "host cannot be used"),
        ("[upstream]\nno_proxy = ['a', 'b:80']\n", ":2 upstream.no_proxy[1]: "),
        ("[upstream]\nno_proxy = ['10.0.0.0/99']\n", "not an address or a range"),
        ("[upstream]\nca_file = 'relative.pem'\n", "is not an absolute path"),
        ("[upstream]\nca_file = '/nowhere/ca.pem'\n", "upstream.ca_file: /nowhere/ca.pem cannot"),
        ("[upstream]\nproxy_password = { from_env = 'A' }\n", "there is no proxy"),
        ("[upstream\n", "is not TOML"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(write: Write, text: str, words: str) -> None:
    write(text)
    told = refusal()
    assert words in told
    assert "hunter2" not in told


def test_an_environments_proxy_is_used_only_if_that_is_written(write: Write) -> None:
    environment = {
        "HTTPS_PROXY": "http://env:3128",
        "NO_PROXY": "localhost, .corp.example,10.0.0.0/8,10.1.2.3",
    }
    write("[upstream]\n")
    assert settings.read(environment).proxy is None
    write('[upstream]\nproxy = "environment"\n')
    found = settings.read(environment)
    assert str(found.proxy) == "http://env:3128"
    assert found.direct_hosts == (
        "localhost",
        "**.localhost",
        "corp.example",
        "**.corp.example",
    )
    assert found.direct_ranges == ("10.0.0.0/8", "10.1.2.3")
    assert settings.read({}).proxy is None
    assert settings.read({**environment, "NO_PROXY": "*"}).proxy is None
    assert "of NO_PROXY cannot be used" in refusal({**environment, "NO_PROXY": "a:80"})


def test_only_a_file_of_the_users_own_is_read(write: Write, tmp_path: Path) -> None:
    file = write("[upstream]\n")
    for mode in (0o620, 0o602):
        file.chmod(mode)
        assert "others can write it" in refusal()
    file.chmod(0o644)
    assert settings.read({}).proxy is None
    write('[upstream]\nproxy = "http://me:hunter2@p:1"\n').chmod(0o644)
    assert "others can read this file" in refusal()
    if os.getuid() == 0:
        file.chmod(0o600)
        os.chown(file, 65534, -1)
        assert "belongs to user 65534" in refusal()
    file.unlink()
    file.mkdir()
    assert "not a regular file" in refusal()


def plan_that_writes(folder: Path) -> dict[str, Any]:
    bind = {
        "op": "bind_mount",
        "kind": "directory",
        "source": str(folder),
        "target": str(folder),
        "read_only": False,
    }
    return {"steps": [{"op": "enter_view"}, bind]}


def test_what_an_agent_could_write_is_not_believed(write: Write, tmp_path: Path) -> None:
    """Neither what the one that is about to start could, nor any before it."""
    work = tmp_path / "work"
    work.mkdir()
    certificate = work / "ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", "/dev/null", "-out", certificate, "-subj", "/CN=corp"],
        check=True, capture_output=True,
    )  # fmt: skip
    file = write(f"[upstream]\nca_file = '{certificate}'\n")
    assert settings.read({}).authorities == certificate.read_text()
    assert f"a sandbox could write to {work}" in refusal(plan=plan_that_writes(work))
    assert f"a sandbox could write to {work}" in refusal()
    # A link to it is no better, and neither is a link in its place.
    link = tmp_path / "link.pem"
    link.symlink_to(certificate)
    write(f"[upstream]\nca_file = '{link}'\n")
    assert "a sandbox could write" in refusal()
    moved = work / "settings.toml"
    moved.write_text("[upstream]\n")
    file.unlink()
    file.symlink_to(moved)
    assert "a sandbox could write" in refusal()
    assert written.Roots().around(str(work)) == str(work)


def test_a_file_of_authorities_holds_authorities(write: Write, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    write(f"[upstream]\nca_file = '{file}'\n")
    file.write_text("-----BEGIN PRIVATE KEY-----\n")
    assert "holds no certificate" in refusal()
    file.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "cannot be read" in refusal()


def test_a_start_without_settings_imports_none_of_this() -> None:
    code = "import sys, nemoclaw_core.planning as p; print('nemoclaw_core.settings' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_doctor_shows_the_settings_and_no_password(write: Write) -> None:
    def told(**environment: str) -> str:
        return "\n".join(report(environment).lines)

    assert told() == ""
    assert "HTTPS_PROXY of this environment is not used" in told(
        HTTPS_PROXY="http://me:hunter2@p:1"
    )
    write('[upstream]\nproxy = "http://me:hunter2@p:1"\nno_proxy = ["*.corp", "10.0.0.0/8"]\n')
    assert told(HTTPS_PROXY="http://q:1") == (
        "upstream proxy: http://p:1, with a password\nreached directly: *.corp, 10.0.0.0/8"
    )
    write("[upstream]\nproxi = 1\n")
    error = report({}).error
    assert error is not None
    assert "unknown key" in str(error)
    shown = doctor.as_text(attrs.evolve(doctor.diagnose("default", None), settings=report({})))
    assert "nothing whose network has rules would start" in "\n".join(shown)
