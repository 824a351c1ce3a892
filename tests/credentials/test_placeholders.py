"""A placeholder looks like the key, and tells nothing of it but its beginning and its length."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.credentials import placeholders

SHAPES = {
    "sk-ant-api03-" + "aB3_" * 24 + "AA": r"sk-ant-[A-Za-z0-9]{104}",
    "ghp_" + "aB3dE5gH7jK9" * 3: r"ghp_[A-Za-z0-9]{36}",
    "github_pat_" + "11ABcd" * 12: r"github_pat_[A-Za-z0-9]{72}",
    "xoxb-" + "1234567890-" * 3 + "abcdef": r"xoxb-[a-z0-9]{39}",
    "AIzaSy" + "Ab1" * 11: r"AIza[A-Za-z0-9]{35}",
    "SG." + "aB1" * 8 + "." + "cD2" * 10: r"SG\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{30}",
    "deadbeef" * 4: r"[0-9a-f]{32}",
    "0123456789" * 2: r"[0-9]{20}",
    "123e4567-e89b-12d3-a456-426614174000": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-"
    r"[0-9a-f]{12}",
    "c29tZXRoaW5nIGxvbmc9PT09PQ==": r"[A-Za-z0-9]{26}==",
}


@pytest.mark.parametrize("key", SHAPES)
def test_it_has_the_shape_of_the_key(key: str) -> None:
    made = placeholders.like(key)
    assert re.fullmatch(SHAPES[key], made), made
    assert len(made) == len(key)
    assert made != key
    assert made != placeholders.like(key)


@pytest.mark.parametrize(
    "key", ["short", "fifteen-letters", "two words " * 4, "käse" * 9, "a\nb" * 9]
)
def test_a_key_without_a_shape_gives_it_nothing(key: str) -> None:
    made = placeholders.like(key)
    assert re.fullmatch(r"nemoclaw-[A-Za-z0-9]{32}", made)


@pytest.mark.parametrize(
    "key", ["abcd-efgh-ijkl-mnop", "hunter2-hunter2-hun", "Tr0ub4dor_and_3_more_words"]
)
def test_a_password_in_groups_has_no_beginning(key: str) -> None:
    assert all(not placeholders.like(key).startswith(key[:4]) for _ in range(20))


@given(st.text("abcXYZ019-_.", min_size=16, max_size=80))
def test_no_more_than_a_beginning_is_kept(key: str) -> None:
    made = placeholders.like(key)
    shared = next(
        (at for at, (a, b) in enumerate(zip(made, key, strict=False)) if a != b), len(key)
    )
    words = "".join(char for char in key[12:] if char not in ".:-_=")
    assert made != key or not words
    # What is the same by chance: 12 random characters of 62 never are.
    assert shared <= 12 + 12


def test_an_aws_credential_has_the_parts_that_the_real_one_has() -> None:
    real = {"access_key_id": "ASIAIOSFODNN7EXAMPLE", "secret_access_key": "x", "session_token": "t"}
    made = placeholders.aws(real)
    assert re.fullmatch(r"ASIA[A-Z2-7]{16}", made["access_key_id"])
    assert len(made["secret_access_key"]) == 40
    assert len(made["session_token"]) > 100
    assert set(placeholders.aws({**real, "session_token": ""})) == {
        "access_key_id", "secret_access_key",
    }  # fmt: skip


def test_every_character_of_an_alphabet_is_drawn() -> None:
    drawn = placeholders.drawn("abc", 3000)
    assert all(800 < drawn.count(char) < 1200 for char in "abc")
