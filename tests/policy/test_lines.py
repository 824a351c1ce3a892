"""Claims about the scanner that tells on which line a key stands."""

from __future__ import annotations

import random
from typing import Any

import tomli
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.policy.lines import Lines
from nemoclaw_core.policy.problems import Key

from .conftest import CALM

HARD = '''# comment = 1
title = "a # b = c"  # x = 1
"quoted key".'lit.eral'.plain = 1
esc = """
[not.a.header]
k = 1 \\""" still """
lit = \'\'\'
x = 1\'\'\'
after = 2
list = [  # one = 1
  "a",

  # two
  { name = "b", "in ner" = [1,
    2] }, [
      3]
]
date = 1979-05-27T07:32:00Z
[a.b]  # implicit a
c.d.e = 1
[ "x y" . z ]
k=1
[[rules]]
n = 1
[rules.sub]
k = 1
[[rules]]
n = 2
[[rules.inner]]
k = {a = {b = 1}, c = 2}
[a]
z = 1
"\\u0061\\t" = 1
'''

EXPECTED: dict[Key, int] = {
    ("title",): 2,
    ("quoted key",): 3,
    ("quoted key", "lit.eral", "plain"): 3,
    ("esc",): 4,
    ("lit",): 7,
    ("after",): 9,
    ("list",): 10,
    ("list", 0): 11,
    ("list", 1): 14,
    ("list", 1, "name"): 14,
    ("list", 1, "in ner", 1): 15,
    ("list", 2): 15,
    ("list", 2, 0): 16,
    ("date",): 18,
    ("a", "b"): 19,
    ("a", "b", "c", "d", "e"): 20,
    ("x y", "z"): 21,
    ("x y", "z", "k"): 22,
    ("rules",): 23,
    ("rules", 0): 23,
    ("rules", 0, "sub", "k"): 26,
    ("rules", 1): 27,
    ("rules", 1, "n"): 28,
    ("rules", 1, "inner", 0, "k", "a", "b"): 30,
    ("a",): 31,
    ("a", "z"): 32,
    ("a", "a\t"): 33,
}


def paths(value: object, at: Key = ()) -> list[Key]:
    """Every key path of what tomli gives."""
    found: list[Key] = []
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, each in items:
        found += [(*at, key), *paths(each, (*at, key))]
    return found


def test_every_form_of_key_has_its_line() -> None:
    lines = Lines(HARD)
    assert {key: lines[key] for key in EXPECTED} == EXPECTED
    assert [key for key in paths(tomli.loads(HARD)) if key not in lines] == []


def test_an_unknown_key_has_the_line_of_the_table_around_it() -> None:
    lines = Lines("\n[a]\nb = 1\n")
    assert lines["a", "nothing", 3] == 2
    assert lines["nothing",] == 1
    assert lines[()] == 1


def test_windows_line_ends_count_once() -> None:
    assert Lines("a = 1\r\n\r\nb = 2\r\n")["b",] == 3


class Writer:
    """Writes a document in a random style, and notes on which line it wrote each key."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.text = ""
        self.expected: dict[Key, int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def note(self, key: Key) -> None:
        self.expected.setdefault(key, self.line)

    def document(self, data: dict[str, Any]) -> None:
        self.table((), data)

    def table(self, at: Key, table: dict[str, Any]) -> None:
        inner = {}
        for key, value in table.items():
            own = isinstance(value, dict) or (
                isinstance(value, list) and value and all(isinstance(e, dict) for e in value)
            )
            if own and self.random.random() < 0.6:
                inner[key] = value
                continue
            self.noise()
            self.note((*at, key))
            self.text += f"{self.key(key)}{self.space()}={self.space()}"
            self.value((*at, key), value)
            self.text += f"{self.space()}{self.random.choice(['', '# c = [1'])}\n"
        for key, value in inner.items():
            header = ".".join(self.key(str(e)) for e in (*at, key) if isinstance(e, str))
            if isinstance(value, dict):
                self.noise()
                self.note((*at, key))
                self.text += f"[{header}]\n"
                self.table((*at, key), value)
                continue
            for index, each in enumerate(value):
                self.noise()
                self.note((*at, key))
                self.note((*at, key, index))
                self.text += f"[[{self.space()}{header} ]]\n"
                self.table((*at, key, index), each)

    def value(self, at: Key, value: object) -> None:
        if isinstance(value, dict):
            self.text += "{"
            for index, (key, each) in enumerate(value.items()):
                self.text += ", " if index else " "
                self.note((*at, key))
                self.text += f"{self.key(key)} = "
                self.value((*at, key), each)
            self.text += " }"
        elif isinstance(value, list):
            self.text += "["
            for index, each in enumerate(value):
                self.break_or_space()
                self.note((*at, index))
                self.value((*at, index), each)
                self.break_or_space()
                self.text += "," if index < len(value) - 1 or self.random.random() < 0.3 else ""
            self.break_or_space()
            self.text += "]"
        elif isinstance(value, bool):
            self.text += "true" if value else "false"
        elif isinstance(value, str):
            self.string(value)
        else:
            self.text += repr(value)

    def string(self, value: str) -> None:
        plain = "'" not in value and "\n" not in value
        style = self.random.randrange(4)
        if style == 0 and plain:
            self.text += f"'{value}'"
        elif style == 1 and "'" not in value:
            self.text += f"'''\n{value}'''"
        elif style == 2:
            self.text += '"""\n' + self.escaped(value).replace("\\n", "\n") + '"""'
        else:
            self.text += f'"{self.escaped(value)}"'

    def key(self, key: str) -> str:
        bare = key and all(each.isascii() and (each.isalnum() or each in "-_") for each in key)
        if bare and self.random.random() < 0.8:
            return key
        return f'"{self.escaped(key)}"'

    @staticmethod
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    def space(self) -> str:
        return self.random.choice(["", " ", "\t "])

    def noise(self) -> None:
        self.text += self.random.choice(["", "", "\n", "# [x]\n", "  \n", '# """\n'])

    def break_or_space(self) -> None:
        self.text += self.random.choice(["", " ", "\n", " # ] , {\n  "])


TEXT = st.text("ab\"'\\=[]{}#., \n", max_size=6)
KEY = st.text("ab\"'=[]#. \\", max_size=4)
VALUE = st.recursive(
    st.one_of(st.integers(-99, 99), st.booleans(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEY, inner, max_size=3)),
    max_leaves=12,
)


@CALM
@given(st.dictionaries(KEY, VALUE, max_size=4), st.integers(0, 1 << 30))
def test_lines_agree_with_a_writer_that_knows_them(data: dict[str, Any], seed: int) -> None:
    writer = Writer(seed)
    writer.document(data)
    try:
        parsed = tomli.loads(writer.text)
    except tomli.TOMLDecodeError:
        # A list that the writer broke over lines inside an inline table: TOML 1.1 alone has it.
        return
    assert parsed == data
    lines = Lines(writer.text)
    assert {key: lines[key] for key in writer.expected} == writer.expected
    assert [key for key in paths(parsed) if key not in lines] == []


@CALM
@given(st.text("ab=[]{}\"'\\#.,\n\r \t\x00é", max_size=60))
def test_any_text_is_scanned_without_an_error(text: str) -> None:
    lines = Lines(text)
    try:
        parsed = tomli.loads(text)
    except ValueError:
        return
    assert [key for key in paths(parsed) if key not in lines] == []


def test_deep_nesting_costs_neither_an_error_nor_much_memory() -> None:
    for text in ("a = " + "[" * 5000, "a" + ".a" * 200_000 + " = 1", "[" + "a." * 200_000 + "a]"):
        assert Lines(text)["a",] == 1
