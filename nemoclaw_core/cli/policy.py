"""``nemoclaw policy check | explain | diff | try | trust``."""

from __future__ import annotations

import argparse
import json

from nemoclaw_core import __version__

from . import vouching
from .arguments import Parser


def main(argv: list[str]) -> int:
    """Run one of the policy commands.

    Exit status: 0; 3 when a policy is not valid; ``diff`` gives 1 when the policies differ, ``try``
    when a URL is not allowed, or a recorded decision would be another one.
    """
    replays = any(each.partition("=")[0] == "--replay" for each in argv)
    options = _parser(replays).parse_args(argv)
    status: int = options.run(options)
    return status


def _parser(replays: bool = False) -> Parser:
    # argparse takes no URLs at all for `*` where an option stands before them: so `+` mostly.
    parser = Parser(
        prog="nemoclaw policy", description="Check, explain, compare and trust policies."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    selector = "NAME, FILE or FILE:NAME; a file has a slash or ends in .toml"
    workdir = "the work directory that {workdir} stands for"

    check = commands.add_parser("check", help="report everything that is wrong in a policy file")
    check.add_argument("file", metavar="FILE")
    check.add_argument(
        "-C",
        "--workdir",
        metavar="DIR",
        help=f"{workdir}; with it, a path that is not on this host is an error",
    )
    check.set_defaults(run=_check)

    explain = commands.add_parser("explain", help="print the policy in force, value by value")
    explain.add_argument(
        "selector", nargs="?", metavar="POLICY", help=f"{selector}; default: the default policy"
    )
    explain.add_argument(
        "--no-plugins",
        action="store_true",
        help="leave out what plugins make of the policy, such as the list of system calls",
    )
    explain.set_defaults(run=_explain)

    diff = commands.add_parser("diff", help="print what policy B permits more or less than A")
    diff.add_argument("first", metavar="A", help=selector)
    diff.add_argument("second", metavar="B")
    diff.set_defaults(run=_diff)

    attempt = commands.add_parser(
        "try", help="say whether URLs are allowed, by which rule, and what would allow them"
    )
    attempt.add_argument("selector", metavar="POLICY", help=selector)
    attempt.add_argument(
        "url",
        metavar="URL",
        nargs="*" if replays else "+",
        help="https://HOST/PATH, HOST:PORT ...",
    )
    attempt.add_argument(
        "--replay",
        metavar="LOG",
        help="instead of URLs: judge the decisions anew that were recorded in a file of events "
        "(with a slash, or ending in .jsonl; - reads standard input) or of a sandbox",
    )
    attempt.add_argument("--method", metavar="METHOD", help="default: GET, or POST with --data")
    attempt.add_argument("--data", metavar="JSON", help="the body of the requests; @FILE reads it")
    attempt.add_argument(
        "--message", metavar="TEXT", help="a message on the WebSocket of a ws:// or wss:// URL"
    )
    attempt.add_argument("--binary", metavar="PATH", help="the program that connects")
    attempt.add_argument(
        "--resolve", action="store_true", help="look the names up here, and judge their addresses"
    )
    attempt.set_defaults(run=_try)

    trust = commands.add_parser(
        "trust",
        help="let a policies.toml that an agent may have written be found as ./policies.toml",
        description="Vouch for a policy file that an agent may have written, as it is now: after "
        "this it is used when it is found as ./policies.toml, until its content changes. Shows the "
        "file and asks.",
    )
    trust.add_argument("file", metavar="FILE")
    how = trust.add_mutually_exclusive_group()
    how.add_argument("--yes", action="store_true", help="show the file and do not ask")
    how.add_argument(
        "--digest",
        metavar="DIGEST",
        help="do not ask, and vouch for nothing but this content: as `b2sum -l 256 FILE` gives it",
    )
    how.add_argument(
        "--forget",
        action="store_true",
        help="take it back; also for a file that is gone and was used here",
    )
    trust.set_defaults(run=vouching.main)

    for command in (check, explain, diff, attempt, trust):
        command.set_defaults(parser=command)
    for command in (explain, diff, attempt):
        command.add_argument("-C", "--workdir", metavar="DIR", help=f"{workdir}; default: this one")
        command.add_argument("--json", action="store_true", help="one JSON document")
    return parser


def _check(options: argparse.Namespace) -> int:
    from nemoclaw_core.checking import check_file

    report = check_file(options.file, options.workdir)
    print(f"{options.file}: OK ({', '.join(report.policies) or 'no policy in it'})")
    if not report.linux:
        print("Agents start on Linux alone: nothing was asked of this host.")
    for notes in report.notes:
        gaps = f"an agent would start under policy {notes.policy} with gaps"
        outcome = gaps if notes.starts else f"no agent would start under policy {notes.policy}"
        print(f"On this host, with nemoclaw {__version__}, {outcome}:")
        for line in notes.lines:
            print(f"  {line}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    from nemoclaw_core.host import probe
    from nemoclaw_core.plugins import PluginManager
    from nemoclaw_core.policy import Context, explain
    from nemoclaw_core.policy.resolve import load_merged

    context = Context.here(options.workdir)
    policy, merged = load_merged(options.selector, context)
    idle = explain.idle_denials(policy, merged)
    if not options.json:
        # First, because it can be shown whatever is wrong with a plugin.
        print(explain.as_text(policy, context.cwd, idle))
    if options.no_plugins:
        if options.json:
            print(json.dumps(explain.as_data(policy, {}, idle), indent=2))
        return 0
    manager = PluginManager()
    manager.load(policy.plugins)
    plugins = explain.by_plugins(policy, probe(), manager)
    if options.json:
        print(json.dumps(explain.as_data(policy, plugins, idle), indent=2))
    elif plugins:
        print()
        print(explain.plugins_as_text(plugins))
    return 0


def _diff(options: argparse.Namespace) -> int:
    from nemoclaw_core.policy import Context, diff, load

    context = Context.here(options.workdir)
    first = load(options.first, context=context)
    second = load(options.second, context=context)
    found = diff.compare(first, second)
    if options.json:
        print(json.dumps(diff.as_data(first, second, found), indent=2))
    elif found:
        print(diff.as_text(first, second, found))
    return 1 if found else 0


def _try(options: argparse.Namespace) -> int:
    from .try_policy import run

    return run(options)
