"""Names of sandboxes: readable, safe as a folder's name, and given out when nobody chose one.

Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import os

from nemoclaw_hookspecs.errors import UsageError

MAX_LENGTH = 64
RESERVED = frozenset({"run", "trusted-policies", "used-policies", "writable-roots"})
"""What else is in the state directory: ``run`` is the folder of control sockets where
``XDG_RUNTIME_DIR`` is not set, the others are the files of :mod:`nemoclaw_core.trust`."""

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | frozenset("_.-")

_ADJECTIVES = [
    "able",
    "amber",
    "ample",
    "azure",
    "brave",
    "brief",
    "bright",
    "brisk",
    "calm",
    "candid",
    "cheery",
    "civil",
    "clear",
    "clever",
    "cosy",
    "crisp",
    "curious",
    "daring",
    "deft",
    "eager",
    "early",
    "easy",
    "fair",
    "famous",
    "fleet",
    "fond",
    "frank",
    "fresh",
    "gentle",
    "glad",
    "golden",
    "grand",
    "happy",
    "hardy",
    "honest",
    "humble",
    "jolly",
    "keen",
    "kind",
    "lively",
    "lucid",
    "lucky",
    "mellow",
    "merry",
    "mild",
    "modest",
    "neat",
    "nimble",
    "noble",
    "patient",
    "plucky",
    "polite",
    "proud",
    "quick",
    "quiet",
    "ready",
    "rosy",
    "serene",
    "sharp",
    "silver",
    "simple",
    "sincere",
    "snug",
    "sober",
    "solid",
    "spry",
    "steady",
    "sturdy",
    "sunny",
    "swift",
    "tidy",
    "tranquil",
    "upbeat",
    "vivid",
    "warm",
    "wise",
    "witty",
    "zesty",
]
_NOUNS = [
    "badger",
    "beaver",
    "bison",
    "bobcat",
    "cicada",
    "condor",
    "coral",
    "crane",
    "cricket",
    "curlew",
    "dingo",
    "dolphin",
    "egret",
    "falcon",
    "ferret",
    "finch",
    "fox",
    "gannet",
    "gecko",
    "gibbon",
    "grouse",
    "hare",
    "heron",
    "ibex",
    "ibis",
    "jackal",
    "jay",
    "kestrel",
    "koala",
    "lark",
    "lemur",
    "linnet",
    "lion",
    "llama",
    "lynx",
    "magpie",
    "marmot",
    "marten",
    "merlin",
    "mink",
    "mole",
    "newt",
    "ocelot",
    "okapi",
    "oriole",
    "osprey",
    "otter",
    "owl",
    "panda",
    "pelican",
    "petrel",
    "pika",
    "plover",
    "puffin",
    "quail",
    "rabbit",
    "raven",
    "robin",
    "salmon",
    "seal",
    "shrew",
    "skink",
    "sparrow",
    "stoat",
    "swan",
    "tapir",
    "tern",
    "thrush",
    "toad",
    "trout",
    "turtle",
    "vole",
    "walrus",
    "weasel",
    "whale",
    "wombat",
    "wren",
    "yak",
    "zebra",
]


def new_name() -> str:
    """A random name such as ``brave-otter-9f3c``: some 10**8 of them, so clashes are rare."""
    chosen = os.urandom(4)
    adjective = _ADJECTIVES[int.from_bytes(chosen[:2], "big") % len(_ADJECTIVES)]
    noun = _NOUNS[int.from_bytes(chosen[2:], "big") % len(_NOUNS)]
    return f"{adjective}-{noun}-{os.urandom(2).hex()}"


def check_name(text: str) -> str:
    """Return ``text`` if it can name a sandbox: ``[a-z0-9][a-z0-9_.-]{0,63}``, not reserved.

    A name becomes a folder's name, so it can hold no separator and cannot start with a dot.

    :raises UsageError: it cannot.
    """
    if not text or len(text) > MAX_LENGTH or text[0] not in _FIRST or not _REST.issuperset(text):
        shown = text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "..."
        raise UsageError(
            f"{shown!r} cannot name a sandbox",
            remedy="use 1 to 64 of a-z, 0-9, '_', '.', '-'; the first a letter or a digit",
        )
    if text in RESERVED:
        raise UsageError(f"{text!r} is reserved and cannot name a sandbox", remedy="choose another")
    return text
