"""The command line: one module a command, imported only when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from nemoclaw_hookspecs.errors import NemoclawError, UsageError

COMMANDS: dict[str, str] = {
    "run": "run a command behind the walls",
    "ps": "list running sandboxes",
    "logs": "show a sandbox's events",
    "stop": "end a sandbox",
    "reload": "change a sandbox's network rules while it runs",
    "history": "list the policies that a sandbox was under, and who changed them",
    "pending": "list what is held until you answer",
    "approve": "let go on what is held",
    "deny": "refuse what is held",
    "exec": "run another command inside a sandbox",
    "policy": "check, explain, compare, trust policies",
    "schema": "print the JSON Schema of the policy file",
    "plugins": "list plugins",
    "doctor": "say what this host can enforce",
    "demo": "watch a scripted agent try to get out",
    "version": "print the version",
}


def usage() -> str:
    """The text of ``nemoclaw --help``."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return "\n".join(
        (
            "usage: nemoclaw COMMAND [ARGUMENT ...]",
            "",
            *lines,
            "",
            "nemoclaw COMMAND --help says more.",
        )
    )


def report(error: NemoclawError) -> None:
    """Print an error for a person, on standard error."""
    from ..events.text import printable

    # Names that an agent chose may stand in it.
    sys.stderr.write("\n".join(map(printable, f"nemoclaw: {error}".split("\n"))) + "\n")


def _unknown(name: str) -> UsageError:
    from .options import did_you_mean

    hint = "`nemoclaw --help` lists the commands"
    return UsageError(f"there is no command {name!r}", remedy=did_you_mean(name, COMMANDS, hint))


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status (see docs/exit-codes.md)."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name = "version" if arguments[0] in ("-V", "--version") else arguments[0]
    if name not in COMMANDS:
        report(_unknown(name))
        return UsageError.exit_code
    try:
        command = import_module(f".{name}", __name__)
        status: int = command.main(arguments[1:])
        if sys.stdout is not None:  # None when it was closed before the start.
            sys.stdout.flush()
        return status
    except NemoclawError as error:
        report(error)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`nemoclaw logs | head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        from ..state import unusable

        told = unusable(error)
        if told is None:
            raise
        report(told)
        return told.exit_code
    except KeyboardInterrupt:
        return 130
