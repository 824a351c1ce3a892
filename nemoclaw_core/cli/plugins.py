"""``nemoclaw plugins``: what is installed, what the policy enables, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nemoclaw_hookspecs.errors import NemoclawError, PluginError
from nemoclaw_hookspecs.policy import PluginPolicy

from ..plugins import Installed, PluginManager, discover
from .arguments import Parser


def main(argv: list[str]) -> int:
    """Print a table or one JSON document.

    Exit status: 0, or 4 when a plugin that the policy enables cannot be used. Plugins that it does
    not enable are not imported, so the hooks that they implement are not known.
    """
    from ..policy import Context, load

    parser = Parser("nemoclaw plugins", description="List plugins.")
    parser.add_argument(
        "-p",
        "--policy",
        metavar="POLICY",
        help="NAME, FILE or FILE:NAME; default: the default policy",
    )
    parser.add_argument("-C", "--workdir", metavar="DIR", help="what {workdir} stands for")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    given = parser.parse_args(argv)
    policy = load(given.policy, context=Context.here(given.workdir))
    rows = list(survey(policy.plugins))
    if given.json:
        print(json.dumps({"policy": f"{policy.file}:{policy.name}", "plugins": rows}, indent=2))
    else:
        _print(rows)
    broken = any(row["enabled"] and row["problem"] for row in rows)
    return PluginError.exit_code if broken else 0


def survey(plugins: PluginPolicy) -> Iterator[dict[str, Any]]:
    """One record a plugin: those that the policy enables, in its order, then the others.

    Keys: ``name``, ``distribution``, ``version``, ``enabled``, ``required``, ``hooks`` (a list, or
    None when the plugin was not imported), ``problem`` (why it is not in use, or None).
    """
    manager = PluginManager()
    failures = manager.attempt(plugins)
    installed: dict[str, list[Installed | None]] = {}
    for each in discover():
        installed.setdefault(each.name, []).append(each)
    for name in dict.fromkeys((*plugins.enable, *installed, *failures)):
        problem = _problem(name, failures.get(name), plugins)
        for found in installed.get(name, [None]):
            yield {
                "name": name,
                "distribution": found.distribution if found else None,
                "version": found.version if found else None,
                "enabled": name in plugins.enable,
                "required": name in plugins.required,
                "hooks": list(manager.hooks_of(name)) if name in manager.loaded else None,
                "problem": problem,
            }


def _problem(name: str, failure: NemoclawError | None, plugins: PluginPolicy) -> str | None:
    if failure is not None:
        return str(failure)
    return None if name in plugins.enable else "not in plugins.enable of the policy"


def _print(rows: list[dict[str, Any]]) -> None:
    table = [("NAME", "DISTRIBUTION", "VERSION", "ENABLED", "HOOKS")]
    for row in rows:
        state = "no"
        if row["enabled"]:
            state = "required" if row["required"] else "yes"
        table.append(
            (
                row["name"],
                row["distribution"] or "-",
                row["version"] or "-",
                "broken" if row["enabled"] and row["problem"] else state,
                "-" if row["hooks"] is None else ", ".join(row["hooks"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
    for row in rows:
        if row["problem"]:
            print(f"\n{row['name']}: {row['problem']}")
