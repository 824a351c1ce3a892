"""Records are encoded as the standard library would, and refuse what is no JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.events.encoder import encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)  # fmt: skip


def standard(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


@given(VALUES)
def test_it_is_what_the_json_module_says(value: Any) -> None:
    assert encode(value) == standard(value)


@given(VALUES)
def test_it_is_ascii_in_one_line(value: Any) -> None:
    text = encode(value)
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode({"a": value})


@pytest.mark.parametrize("value", [b"bytes", {1}, object(), 1j])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be part of an event"):
        encode([value])


def test_without_the_c_accelerator_it_says_the_same() -> None:
    program = """
import sys
sys.modules["_json"] = None
from nemoclaw_core.events.encoder import encode
value = {"a": [1, 2.5, None, True, "\\u2028\\x1b\\"\\\\"], "b": {"c": ()}}
print(encode(value))
try:
    encode({1})
except TypeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    value = {"a": [1, 2.5, None, True, '\u2028\x1b"\\'], "b": {"c": ()}}
    assert done.stdout.splitlines() == [standard(value), "a set cannot be part of an event"]
