"""A small option parser for the commands whose start must be quick.

``argparse`` costs 10 ms to import, a third of what `nemoclaw run` may take in all.
"""

from __future__ import annotations

from nemoclaw_hookspecs.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Options:
    """Parsed options: ``flags`` that were given, ``values`` by option, and the ``rest``."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.values: dict[str, list[str]] = {}
        self.rest: list[str] = []

    def last(self, name: str) -> str | None:
        """The value of an option, the last one if it was repeated."""
        return self.values.get(name, [None])[-1]


def parse(
    argv: list[str],
    flags: tuple[str, ...],
    valued: tuple[str, ...],
    short: Mapping[str, str],
    *,
    command: str,
) -> Options:
    """Parse options up to ``--`` or the first word that is none; the rest is not touched.

    :param command: whose options they are, for messages.
    :raises UsageError: an unknown option, or one without its value.
    """
    options = Options()
    hint = f"`nemoclaw {command} --help` says what can be written"
    words = list(argv)
    while words:
        word = words[0]
        if word == "--":
            options.rest = words[1:]
            return options
        if not word.startswith("-") or word == "-":
            options.rest = words
            return options
        words.pop(0)
        name, equals, value = word.partition("=")
        name = short.get(name, name)
        if name in flags and not equals:
            options.flags.add(name)
        elif name in valued:
            if not equals:
                if not words:
                    raise UsageError(f"{name} needs a value", remedy=hint)
                value = words.pop(0)
            options.values.setdefault(name, []).append(value)
        else:
            said = f"{name} takes no value" if name in flags else f"there is no option {name}"
            raise UsageError(said, remedy=hint)
    return options
