"""A rule that is added to a policy file: where it is put, and that all else stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs.errors import UsageError

from nemoclaw_core.observe import digest
from nemoclaw_core.policy.replacing import replace
from nemoclaw_core.policy.writing import add_rule

RULE = '[[policy.default.network.allow]]\nhost = "new.test"  # told so\nports = [8443]\n'
HEAD = "version = 1\n# mine\n\n"
TABLE = '[policy.default.network]\nmode =   "proxy"   # yes\n'
ALLOW = "[[policy.default.network.allow]]\nhost   = 'a.test'\n"
ARRAY = '{host = "new.test", ports = [8443]}'

PLACES = {
    "no rules": (f"{HEAD}{TABLE}", f"{HEAD}{TABLE}\n{RULE}"),
    "no newline": (f"{HEAD}{TABLE}# end", f"{HEAD}{TABLE}# end\n\n{RULE}"),
    "no network": (
        f"{HEAD}[policy.default]\nextends = ['x']\n",
        f"{HEAD}[policy.default]\nextends = ['x']\n\n{RULE}",
    ),
    "behind the last": (f"{HEAD}{TABLE}\n{ALLOW}", f"{HEAD}{TABLE}\n{ALLOW}\n{RULE}"),
    "before another table and its comment": (
        f"{HEAD}{TABLE}\n{ALLOW}\n# of plugins\n[plugins]\nenable = []\n",
        f"{HEAD}{TABLE}\n{ALLOW}\n{RULE}\n# of plugins\n[plugins]\nenable = []\n",
    ),
    "behind the tables of a rule": (
        f"{ALLOW}  [[policy.default.network.allow.http]]\n  methods = ['GET']\n[plugins]\n",
        f"{ALLOW}  [[policy.default.network.allow.http]]\n  methods = ['GET']\n"
        f"\n{RULE}\n[plugins]\n",
    ),
    "tables in any order": (
        f"{ALLOW}[plugins]\n{TABLE}[[policy.other.network.allow]]\nhost = 'b'\n",
        f"{ALLOW}\n{RULE}\n[plugins]\n{TABLE}[[policy.other.network.allow]]\nhost = 'b'\n",
    ),
    "dotted": ("policy.default.network.mode = 'proxy'\n",
               f"policy.default.network.mode = 'proxy'\n\n{RULE}"),
    "an array": (f"{TABLE}allow = [{{ host = 'a.test' }}]  # one\n[plugins]\n",
                 f"{TABLE}allow = [{{ host = 'a.test' }}, {ARRAY}]  # one\n[plugins]\n"),
    "an array of lines": (
        f"{TABLE}allow = [\n  {{ host = 'a.test' }},  # one\n  # two\n]\n",
        f"{TABLE}allow = [\n  {{ host = 'a.test' }},  # one\n  # two\n  {ARRAY}\n]\n",
    ),
}  # fmt: skip


def added(content: str, port: int = 8443) -> str:
    return add_rule(content, "default", "new.test", port, "told so")


@pytest.mark.parametrize("place", PLACES)
def test_a_rule_is_put_beside_its_like(place: str) -> None:
    before, after = PLACES[place]
    assert added(before) == after


def test_the_ends_of_lines_stay_what_they_are() -> None:
    before = f"{TABLE}\n{ALLOW}".replace("\n", "\r\n")
    assert added(before) == f"{TABLE}\n{ALLOW}\n{RULE}".replace("\n", "\r\n")


def test_the_usual_port_is_not_written() -> None:
    assert tomli.loads(added(TABLE, 443))["policy"]["default"]["network"]["allow"] == [
        {"host": "new.test"}
    ]


def test_a_name_that_needs_quotes_gets_them() -> None:
    text = add_rule("[policy.'a.b'.network]\nmode = 'proxy'\n", "a.b", "new.test", 443, "x")
    assert '[[policy."a.b".network.allow]]' in text


def test_what_would_have_to_be_written_anew_is_left_alone() -> None:
    with pytest.raises(UsageError) as caught:
        added("policy = { default = { network = { mode = 'proxy' } } }\n")
    assert RULE in str(caught.value)


_LINE = st.sampled_from(
    ["# words", "", "[plugins]", "[policy.default.network]", "mode = 'proxy'", "allow = []",
     "[[policy.default.network.allow]]", "host = 'a.test'", "[policy.default]", "x = \"\"\"", '"""',
     "[[policy.other.network.allow]]", "  [[policy.default.network.allow.http]]"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_LINE, max_size=12))
def test_whatever_a_file_looks_like_it_says_the_same_and_the_rule(lines: list[str]) -> None:
    before = "\n".join(["[policy.default.process]", *lines])
    try:
        said = tomli.loads(before)
    except tomli.TOMLDecodeError:
        return
    try:
        text = added(before)
    except UsageError:
        return
    allow = tomli.loads(text)["policy"]["default"]["network"]["allow"]
    assert allow.pop() == {"host": "new.test", "ports": [8443]}
    assert allow == said["policy"]["default"].get("network", {}).get("allow", [])
    left = text.splitlines()
    for line in before.splitlines():
        if not line.startswith("allow"):
            left.remove(line)  # each is there still


# -- the file


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_keeps_its_mode_and_gets_new_content(tmp_path: Path, in_place: bool) -> None:
    file = tmp_path / "policies.toml"
    file.write_bytes(b"the old words\n")
    file.chmod(0o640)
    inode = file.stat().st_ino
    assert replace(str(file), digest(b"the old words\n"), b"new", in_place=in_place) == digest(
        b"new"
    )
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o7777 == 0o640
    assert (file.stat().st_ino == inode) == in_place
    assert os.listdir(tmp_path) == ["policies.toml"]


def test_other_names_of_a_file_keep_leading_to_it(tmp_path: Path) -> None:
    file, other = tmp_path / "a.toml", tmp_path / "b.toml"
    file.write_bytes(b"old")
    os.link(file, other)
    replace(str(file), digest(b"old"), b"new", in_place=False)
    assert other.read_bytes() == b"new"


def test_a_file_that_has_just_changed_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(b"new words")
    with pytest.raises(UsageError, match="a moment ago"):
        replace(str(file), digest(b"old words"), b"mine", in_place=True)
    assert file.read_bytes() == b"new words"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    link = tmp_path / "a.toml"
    link.symlink_to("target")
    with pytest.raises(UsageError, match="cannot be written"):
        replace(str(link), digest(b"old"), b"new", in_place=True)
    assert (tmp_path / "target").read_bytes() == b"old"
