"""Every record is valid OCSF 1.8.0, and holds no secret."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import Caller, EgressRequest, EgressVerdict, HttpRequest
from nemoclaw_hookspecs.errors import CommandNotFound, LayerUnavailable, PluginError
from ocsf_json_schema import (  # type: ignore[import-untyped]
    OcsfJsonSchemaEmbedded,
    get_ocsf_schema,
)

from nemoclaw_core.egress import changes as changes_module
from nemoclaw_core.egress.questions import Answer, Operator, Question
from nemoclaw_core.events import chain, credentials, network, ocsf, text
from nemoclaw_core.events.record import PROFILES, Context

if TYPE_CHECKING:
    from .conftest import Shelf

SECRET = "sk-canary-5e1f"
ARGV = ["/usr/bin/curl", "-H", f"Authorization: Bearer {SECRET}", SECRET]


def context(word: str = "policy.toml:mine") -> Context:
    return Context("box", policy=word, policy_digest="a" * 64)


def plugin_error() -> PluginError:
    error = PluginError(f"plugin 'x' failed in pre_spawn: ValueError: {SECRET}", plugin="x")
    error.__cause__ = ValueError(SECRET)
    return error


def egress(host: str, path: str = "") -> EgressRequest:
    headers = {"authorization": f"Bearer {SECRET}"}
    http = HttpRequest(method="GET", path=path, query=f"key={SECRET}", headers=headers)
    caller = Caller(pid=7, executable=f"/usr/bin/{host}", sha256="a" * 64)
    return EgressRequest(
        sandbox="box",
        host=host,
        port=443,
        protocol="tcp",
        caller=caller,
        http=http if path else None,
    )


def verdict(action: Literal["allow", "deny", "hold"], word: str = "x") -> EgressVerdict:
    return EgressVerdict(action=action, rule=word, reason=word, origin=word, remedy=word)


def operator(word: str) -> Operator:
    return Operator(uid=1000, pid=7, command=word)


def answer(allow: bool, word: str) -> Answer:
    return Answer(allow=allow, scope="once", by=operator(word))


def question(word: str) -> Question:
    return Question(sandbox="box", id="1", host=word, port=443, reason=word, remaining=119.9)


def reloaded(word: str, count: int) -> dict[str, Any]:
    rule = {
        "name": (word * 200)[:60_000],
        "host": "h" * 253,
        **dict.fromkeys(["ports", "tls", "http"], word[:9000]),
    }
    changed = {**rule, "ports": 1, "tls": 1, "http": 1}
    changes = changes_module.compare({}, {word: 1}, [rule] * count, [changed] * count)
    return network.policy_reloaded(
        context(),
        policy=(word, "b" * 64, 2),
        changes=changes_module.as_data(changes),
        told=changes_module.told(changes),
        by=operator(word),
        cause="command",
    )


EVENTS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "launched": lambda word: ocsf.process_launched(
        context(word), argv=[word, *ARGV[1:]], pid=7, uid=1000, workdir=word
    ),
    "launched beside": lambda word: ocsf.process_launched(
        context(), argv=ARGV, pid=7, uid=0, role="exec"
    ),
    "launched nothing": lambda word: ocsf.process_launched(context(), argv=[], pid=7, uid=0),
    "exited": lambda word: ocsf.process_ended(
        context(word), argv=ARGV, pid=7, code=3, signal=None, reason="exited", duration=1.25
    ),
    "killed": lambda word: ocsf.process_ended(
        context(), argv=ARGV, pid=7, code=None, signal=signal.SIGSYS, reason="signaled", duration=0
    ),
    "timed out": lambda word: ocsf.process_ended(
        context(), argv=ARGV, pid=7, code=None, signal=40, reason="timeout", duration=-1
    ),
    "refused": lambda word: ocsf.sandbox_refused(
        context(word),
        argv=[word, *ARGV[1:]],
        error=LayerUnavailable(f"{word}\nmore", where=word, remedy=word),
    ),
    "not found": lambda word: ocsf.sandbox_refused(
        context(), argv=ARGV, error=CommandNotFound("no such program"), role="exec"
    ),
    "refused by a plugin": lambda word: ocsf.sandbox_refused(
        context(), argv=ARGV, error=plugin_error()
    ),
    "receipt": lambda word: ocsf.layer_applied(
        context(), plugin=word, phase="mounts", operations=1, status="full"
    ),
    "partial receipt": lambda word: ocsf.layer_applied(
        context(), plugin="landlock", phase="landlock", operations=2, status="partial"
    ),
    "gap": lambda word: ocsf.gap_left(
        context(word), plugin=word, what=word, consequence=word, remedy=word, origin=word
    ),
    "gap without remedy": lambda word: ocsf.gap_left(
        context(), plugin="netns", what="TCP", consequence="open", remedy=""
    ),
    "connection allowed": lambda word: network.egress_judged(
        context(word), egress(word), verdict("allow", word)
    ),
    "connection denied": lambda word: network.egress_judged(
        context(), egress("192.0.2.1"), verdict("deny", word)
    ),
    "request allowed": lambda word: network.egress_judged(
        context(), egress("api.test", path=f"/{word}"), verdict("allow")
    ),
    "request denied": lambda word: network.egress_judged(
        context(), egress("api.test", path="/x"), verdict("deny", word)
    ),
    "connection approved": lambda word: network.egress_judged(
        context(), egress("api.test"), verdict("allow", word), answer(True, word)
    ),
    "request refused by an operator": lambda word: network.egress_judged(
        context(), egress("api.test", path="/x"), verdict("deny", word), answer(False, word)
    ),
    "connection held": lambda word: network.egress_held(
        context(), egress("api.test"), verdict("hold", word), question(word)
    ),
    "request held": lambda word: network.egress_held(
        context(), egress("api.test", path=f"/{word}"), verdict("hold"), question(word)
    ),
    "reloaded": lambda word: reloaded(word, 1),
    "reloaded, all new": lambda word: reloaded(word, 1000),
    "reload refused": lambda word: network.reload_refused(
        context(), policy=word, reason=word, keys=[word] * 99, by=operator(word), cause="watch"
    ),
    "placeholder elsewhere": lambda word: credentials.credential_elsewhere(
        context(word), egress("api.test", path="/x"), credential=word, place=f"the header {word}"
    ),
    "started": lambda word: ocsf.nemoclaw_started(context(word)),
    "started without policy": lambda word: ocsf.nemoclaw_started(Context("box")),
    "stopped": lambda word: ocsf.nemoclaw_stopped(context()),
    "plugin failed": lambda word: ocsf.plugin_failed(
        context(), plugin=word, hook="on_event", error=ValueError(SECRET), version="1.0"
    ),
    "uncovered": lambda word: ocsf.view_uncovered(context(word), paths=(word, "/work/.env")),
    "torn": lambda word: ocsf.log_damaged(context(), damage="torn", detail=word),
    "lost": lambda word: ocsf.log_damaged(context(), damage="lost", detail="it ends early"),
}


@lru_cache
def validator(class_uid: int) -> jsonschema.Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
    name = schema.lookup_class_name_from_uid(class_uid)
    return jsonschema.Draft202012Validator(schema.get_class_schema(name, profiles=list(PROFILES)))


def problems(line: bytes) -> list[str]:
    record = json.loads(line)
    return [
        f"{error.json_path}: {error.message}"
        for error in validator(record["class_uid"]).iter_errors(record)
    ]


def written(record: dict[str, Any]) -> bytes:
    """The record as it stands in a log."""
    return chain.link(record, 3, "f" * 64)


def test_the_validator_finds_what_is_wrong() -> None:
    record = EVENTS["launched"]("/bin/true")
    del record["severity_id"]
    record["process"]["pid"] = "seven"
    found = problems(written(record | {"invented": 1}))
    assert len(found) == 3


@pytest.mark.parametrize("name", EVENTS)
def test_a_record_is_valid(name: str) -> None:
    assert problems(written(EVENTS[name]("/usr/bin/curl"))) == []


@settings(max_examples=25, deadline=None)
@given(st.text())
def test_a_record_is_valid_and_fits_whatever_it_is_about(word: str) -> None:
    for make in EVENTS.values():
        line = written(make(word))
        assert problems(line) == []
        assert len(line) < 12_000


@pytest.mark.parametrize("word", ["x" * 100_000, "\udcff" * 5000, "\x1b[2J" * 5000, "é" * 5000])
def test_a_record_is_bounded(word: str) -> None:
    for make in EVENTS.values():
        line = written(make(word))
        assert problems(line) == []
        assert len(line) < chain.MAX_LINE
        assert line.isascii()


def test_a_name_that_is_not_utf8_stays_readable() -> None:
    # Strict readers of JSON refuse the lone surrogate that Python has for such a byte.
    line = written(EVENTS["launched"]("/tmp/\udcff"))
    assert json.loads(line)["process"]["file"]["path"] == "/tmp/\\udcff"


@pytest.mark.parametrize("name", EVENTS)
def test_no_argument_and_no_plugin_s_words_are_recorded(name: str) -> None:
    line = written(EVENTS[name]("/usr/bin/curl"))
    assert SECRET.encode() not in line
    assert b"Authorization" not in line


@pytest.mark.parametrize("name", EVENTS)
def test_the_codes_are_known(name: str) -> None:
    record = EVENTS[name]("x")
    code = record["metadata"]["event_code"]
    begins = code in ("process-launched", "nemoclaw-started", "layer-applied", "gap-left")
    # What cannot be logged is denied, and changes nothing.
    begins = begins or code.startswith(("egress-", "request-", "policy-", "reload-", "credential-"))
    assert begins != (code in ocsf.ENDINGS)


def test_the_kind_of_an_event_is_consistent() -> None:
    for make in EVENTS.values():
        record = make("x")
        assert record["type_uid"] == record["class_uid"] * 100 + record["activity_id"]
        assert record["category_uid"] == record["class_uid"] // 1000


def test_a_plugin_that_refuses_in_its_own_words_is_quoted() -> None:
    error = PluginError("plugin 'x' refused in pre_spawn: not on Fridays", plugin="x")
    error.__cause__ = LayerUnavailable("not on Fridays")
    record = ocsf.sandbox_refused(context(), argv=ARGV, error=error)
    assert "not on Fridays" in record["message"]
    record = ocsf.sandbox_refused(context(), argv=ARGV, error=plugin_error())
    assert "plugin 'x'" in record["message"]
    assert "ValueError" in record["message"]


def test_the_filter_s_kill_is_somebody_s_business() -> None:
    assert EVENTS["killed"]("x")["severity_id"] == ocsf.HIGH
    assert "SIGSYS" in EVENTS["killed"]("x")["message"]
    assert "signal 40" in EVENTS["timed out"]("x")["message"]


def test_the_same_gap_has_the_same_number() -> None:
    first, second = EVENTS["gap"]("a"), EVENTS["gap"]("a")
    assert first["finding_info"]["uid"] == second["finding_info"]["uid"]
    assert first["finding_info"]["uid"] != EVENTS["gap"]("b")["finding_info"]["uid"]


def test_records_of_one_start_belong_together(shelf: Shelf) -> None:
    same = [shelf.launch(), shelf.end()]
    containers = [record["device"]["container"]["uid"] for record in same]
    assert containers[0] == containers[1]
    assert containers[0] != EVENTS["started"]("x")["device"]["container"]["uid"]


@given(st.text(), st.integers(30, 200))
def test_text_is_bounded(word: str, limit: int) -> None:
    short = text.bounded(word, limit)
    assert len(short.encode()) <= limit
    if len(word.encode("utf-8", "backslashreplace")) <= limit:
        assert short == word.encode("utf-8", "backslashreplace").decode()


@given(st.text())
def test_text_is_made_printable(word: str) -> None:
    assert text.printable(word).isprintable()
