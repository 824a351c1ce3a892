"""Claims about any input at all: the reader gives a policy or a PolicyError, nothing else."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import PolicyError

from nemoclaw_core.policy.check import read_shipped, read_source
from nemoclaw_core.policy.document import PolicyTable
from nemoclaw_core.policy.files import SHIPPED
from nemoclaw_core.policy.jsonschema import schema

from .conftest import CALM
from .test_lines import Writer

SHIPPED_SOURCE, _ = read_shipped()
with open(SHIPPED, encoding="utf-8") as _file:
    VALID = _file.read() + (
        '[[policy.default.network.allow]]\nhost = "*.a.com"\nports = [1, 2]\n'
        'http = [{ methods = ["GET"], path = "/a/**" }]\n'
        'binaries = ["/usr/bin/git", { path = "/x" }]\ncredential = "c"\n'
        '[policy.default.inference]\ndefault = "cloud"\nhosts = ["a.b"]\n'
        'rules = [{ labels = ["x"], route = "ask", redact = true }]\n'
        '[policy.default.inference.backends.cloud]\ntype = "openai"\n'
        '[credential.c]\nfrom_file = "~/key"\n'
    )


def read(content: bytes) -> bool:
    """True for a policy, False for a PolicyError; anything else is a crash."""
    try:
        read_source("p.toml", content, "", SHIPPED_SOURCE)
    except PolicyError as error:
        if not error.problems:
            raise
        return False
    return True


def test_the_starting_point_of_the_mutations_is_valid() -> None:
    assert read(VALID.encode())


@CALM
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(content: bytes) -> None:
    read(content)


@CALM
@given(st.text("[]{}=\"',.#\n abpolicyversn=1_*~/{}?", max_size=120))
def test_any_text_is_refused_or_read(text: str) -> None:
    read(f"version = 1\n{text}".encode())


NAMES = sorted(
    {key for table in (schema(),) for key in str(table).replace("'", " ").split() if key.isalpha()}
)
KEY = st.one_of(st.sampled_from(NAMES), st.text("ab.*\"' ", max_size=3))
LEAF = st.one_of(
    st.integers(),
    st.booleans(),
    st.floats(),
    st.sampled_from(["base", "default", "/", "~", "{workdir}", "**/.env", "4GiB", "1h", "auto"]),
    st.text(max_size=8),
)
TREE = st.recursive(
    LEAF,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEY, inner, max_size=4)),
    max_leaves=20,
)
SECTION = st.sampled_from([field.name for field in PolicyTable.__attrs_attrs__])


class Plain(Writer):
    """Writes whatever TOML can say, without line breaks in odd places."""

    def value(self, at: Any, value: object) -> None:
        if isinstance(value, float):
            self.text += {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(value), repr(value))
        else:
            super().value(at, value)

    def break_or_space(self) -> None:
        self.text += " "

    @staticmethod
    def escaped(text: str) -> str:
        return "".join(
            each if each.isalnum() or each in " /.*~{}" else f"\\U{ord(each):08x}" for each in text
        )

    def string(self, value: str) -> None:
        self.text += f'"{self.escaped(value)}"'


@CALM
@given(
    st.dictionaries(SECTION, st.dictionaries(KEY, TREE, max_size=4), max_size=3),
    st.dictionaries(KEY, TREE, max_size=2),
    st.integers(0, 1 << 20),
)
def test_any_tables_in_the_right_places_are_refused_or_read(
    sections: dict[str, Any], rest: dict[str, Any], seed: int
) -> None:
    writer = Plain(seed)
    writer.document({**rest, "version": 1, "policy": {"default": sections}})
    read(writer.text.encode("utf-8", "surrogatepass"))


@settings(CALM, max_examples=150)
@given(st.integers(0, 1 << 30))
def test_a_valid_policy_that_was_damaged_is_refused_or_read(seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(VALID.encode())
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(content))
        kind = chance.randrange(4)
        if kind == 0:
            del content[at : at + chance.randint(1, 12)]
        elif kind == 1:
            content[at:at] = chance.choice([b"[", b"]", b'"', b"\n", b"=", b"{", b"\xff", b"x"])
        elif kind == 2:
            other = chance.randrange(len(content))
            content[at:at] = content[other : other + chance.randint(1, 30)]
        else:
            content[at] = chance.randrange(256)
    read(bytes(content))
