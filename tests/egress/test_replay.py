"""Claims about ``nemoclaw policy try --replay``: recorded decisions under another policy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_hookspecs import EgressRequest

from nemoclaw_core import cli
from nemoclaw_core.egress.replay import replay
from nemoclaw_core.events.log import EventLog
from nemoclaw_core.events.network import egress_judged
from nemoclaw_core.events.ocsf import nemoclaw_started
from nemoclaw_core.events.record import Context

from .conftest import CALM, CURL, GIT, connection, request, rule, ruleset

BEFORE = ruleset(
    rule("api.test", http=["GET,POST /**"], name="api"),
    rule("git.test", binaries=["/usr/bin/git"]),
    rule("gone.test"),
)
POLICY = """\
version = 1
[policy.default.network]
mode = "proxy"
[[policy.default.network.allow]]
host = "api.test"
http = [{ methods = ["GET"], path = "/**" }]
[[policy.default.network.allow]]
host = "git.test"
binaries = ["/usr/bin/curl"]
[[policy.default.network.allow]]
host = "new.test"
"""
ASKED: list[EgressRequest] = [
    connection("api.test"),
    request("GET", "/a"),
    request("POST", "/a"),
    request("POST", "/a"),
    connection("git.test", caller=GIT),
    connection("git.test", caller=CURL),
    connection("gone.test"),
    connection("new.test"),
    connection("other.test"),
    attrs.evolve(connection("git.test", caller=GIT), caller=None),
]
EXPECTED = {
    ("denied", "POST", "api.test", "/usr/bin/curl"): 2,
    ("denied", None, "git.test", "/usr/bin/git"): 1,
    ("allowed", None, "git.test", "/usr/bin/curl"): 1,
    ("denied", None, "gone.test", "/usr/bin/curl"): 1,
    ("allowed", None, "new.test", "/usr/bin/curl"): 1,
}


def written(folder: Path, *extra: Any) -> Path:
    """A log of what the first policy decided."""
    context = Context("box", policy="p.toml:default")
    log = EventLog.open("box", directory=str(folder), context=context)
    log.append(nemoclaw_started(context))
    for each in ASKED:
        # The connection of a request was told before; the caller is not always known.
        log.append(egress_judged(context, each, BEFORE.judge(each)))
    for record in extra:
        log.append(record)
    log.close()
    return folder / "box" / "events.jsonl"


Try = Callable[..., tuple[int, str, str]]


@pytest.fixture
def attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Try:
    """Replay something under the policy above, or another one."""
    for name in ("CONFIG", "CACHE"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    file = tmp_path / "new.toml"

    def call(source: str, *arguments: str, policy: str = POLICY) -> tuple[int, str, str]:
        file.write_text(policy)
        status = cli.main(["policy", "try", str(file), "--replay", source, *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_it_says_what_would_be_decided_otherwise_and_by_which_rule(
    attempt: Try, tmp_path: Path
) -> None:
    status, out, err = attempt(str(written(tmp_path)), "--json")
    assert (status, err) == (1, "")
    found = json.loads(out)
    cases = {
        (each["outcome"], each["method"], each["host"], each["binary"]): each["count"]
        for each in found["cases"]
    }
    assert cases == EXPECTED
    assert (found["decisions"], found["same"], found["whole"]) == (10, 4, True)
    assert (found["denied"], found["allowed"], found["asked"], found["unsure"]) == (4, 2, 0, 0)
    posted = next(each for each in found["cases"] if each["method"] == "POST")
    assert posted["was"] == {"action": "allow", "rule": "api"}
    assert posted["now"]["rule"] == "method"
    assert posted["now"]["origin"].endswith("new.toml:4 policy.default.network.allow[0]")
    assert 'methods = ["POST"]' in posted["now"]["remedy"]
    assert posted["first_line"] == 4


def test_a_person_reads_the_same(attempt: Try, tmp_path: Path) -> None:
    status, out, err = attempt(str(written(tmp_path)))
    assert (status, err) == (1, "")
    assert "denied       2 x POST api.test:443/a by /usr/bin/curl" in out
    assert "was allowed by rule api (first in line 4)" in out
    last = out.splitlines()[-1]
    assert last.startswith("10 decisions in ")
    assert last.endswith("4 the same, 4 would be denied, 2 would be allowed")


def test_the_same_policy_changes_nothing(attempt: Try, tmp_path: Path) -> None:
    same = (
        'version = 1\n[policy.default.network]\nmode = "proxy"\nallow = [\n'
        '{ host = "api.test", http = [{ methods = ["GET", "POST"], path = "/**" }] },\n'
        '{ host = "git.test", binaries = ["/usr/bin/git"] }, { host = "gone.test" } ]\n'
    )
    status, out, _ = attempt(str(written(tmp_path)), policy=same)
    assert status == 0
    assert out.endswith("10 the same, 0 would be denied, 0 would be allowed\n")


def test_what_the_log_does_not_hold_is_said_to_be_unsure(attempt: Try, tmp_path: Path) -> None:
    looks = POLICY.replace(
        'host = "api.test"\nhttp = [{ methods = ["GET"], path = "/**" }]',
        'host = "api.test"\nbinaries = ["/usr/bin/curl"]\n'
        'http = [{ methods = ["GET"], path = "/**", query = { key = "1" } }]',
    )
    log = tmp_path / "some.jsonl"
    context = Context("box")
    each = attrs.evolve(connection("gone.test"), caller=None)
    records = [
        egress_judged(context, request("GET", "/a"), BEFORE.judge(request("GET", "/a"))),
        egress_judged(context, each, BEFORE.judge(each)),
    ]
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    _, out, _ = attempt(
        str(log),
        "--json",
        policy=looks.replace('"new.test"', '"gone.test"\nbinaries = ["/usr/bin/git"]'),
    )
    notes = {each["host"]: (each["outcome"], each["note"]) for each in json.loads(out)["cases"]}
    assert notes == {
        "api.test": ("unsure", "the log holds no query and no body"),
        "gone.test": ("unsure", "the log does not say which program it was"),
    }


def test_a_log_that_was_changed_is_told_and_still_judged(attempt: Try, tmp_path: Path) -> None:
    log = written(tmp_path)
    lines = log.read_bytes().split(b"\n")
    lines[3] = lines[3].replace(b"POST", b"GET")
    del lines[5]
    lines.insert(2, b"\x00 no record")
    lines.insert(2, b'{"metadata": {"event_code": "egress-allowed"}}')
    log.write_bytes(b"\n".join(lines))
    status, out, err = attempt(str(log))
    assert status == 1
    assert "line 3: it lacks 'unmapped', and was left out" in err
    assert "line 4: it is no JSON, and was left out" in err
    assert "not as it was written: line" in err
    assert "9 decisions in " in out
    _, out, _ = attempt(str(log), "--json")
    found = json.loads(out)
    assert not found["whole"]
    assert [each["line"] for each in found["unreadable"]] == [3, 4]
    assert "changed" in {each["kind"] for each in found["problems"]}


def test_a_sandbox_is_named_like_everywhere(attempt: Try, tmp_path: Path) -> None:
    written(tmp_path / "state" / "nemoclaw")
    assert attempt("box")[0] == 1
    status, _, err = attempt("nobody")
    assert status == 2
    assert "cannot be read" in err


def test_urls_and_a_log_are_two_questions(attempt: Try, tmp_path: Path) -> None:
    assert attempt(str(written(tmp_path)), "https://api.test/")[0] == 2
    assert cli.main(["policy", "try", str(tmp_path / "new.toml")]) == 2


def test_it_needs_nothing_of_linux(attempt: Try, tmp_path: Path) -> None:
    log = written(tmp_path)
    attempt(str(log))
    script = (
        "import sys\nsys.modules['fcntl'] = None\nfrom nemoclaw_core import cli\n"
        f"sys.exit(cli.main(['policy', 'try', {str(tmp_path / 'new.toml')!r}, '--replay', "
        f"{str(log)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KNOWN = json.loads(json.dumps(egress_judged(Context("b"), ASKED[2], BEFORE.judge(ASKED[2]))))


@CALM
@given(st.sampled_from(["unmapped", "dst_endpoint", "http_request", "actor", "metadata"]), JSON)
def test_no_line_breaks_it(key: str, value: Any) -> None:
    lines = [json.dumps({**KNOWN, key: value}).encode(), json.dumps(value).encode()]
    lines += [
        json.dumps({**KNOWN, key: {**KNOWN[key], each: value}}).encode() for each in KNOWN[key]
    ]
    found = replay([*lines, b"[" * 100_000, b"\xff"], ruleset(rule("api.test")))
    assert found.records == len(lines) + 2
    assert found.bad_count >= 2
