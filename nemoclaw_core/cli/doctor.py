"""``nemoclaw doctor``: what this host can enforce, and which policies could run."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import attrs
from nemoclaw_hookspecs.errors import NemoclawError, UsageError

from .. import planning
from ..host import Answer, Examination, examine
from ..host.remedies import Settings, libseccomp, remedy
from ..policy import Context
from ..settings.report import SettingsReport
from ..settings.report import report as report_settings
from ..workdir import choose_workdir
from .arguments import Parser
from .verdict import Verdict, judge

DEFAULT = "default"


@attrs.frozen(slots=True, kw_only=True)
class Check:
    """One of the kernel's answers, and what to do about it."""

    answer: Answer
    remedy: str


@attrs.frozen(slots=True, kw_only=True)
class Report:
    """Everything that the command found out."""

    found: Examination
    checks: tuple[Check, ...]
    verdicts: tuple[Verdict, ...]
    """The policy that was asked for comes first; it decides the exit status."""
    settings: SettingsReport
    """What a start with a gate would read besides the policy."""
    note: str = ""
    """Why another work directory than the current one stands for ``{workdir}``."""

    @property
    def runs(self) -> bool:
        """True when an agent would start under the policy that was asked for."""
        return self.verdicts[0].runs and self.settings.error is None


def main(argv: list[str]) -> int:
    """Report on this host; 0 when an agent would start under the policy, else 1."""
    given = _parser().parse_args(argv)
    report = diagnose(given.policy, given.workdir)
    if given.json:
        print(json.dumps(as_data(report), indent=2))
    else:
        print("\n".join(as_text(report)))
    return 0 if report.runs else 1


def _parser() -> Parser:
    parser = Parser(
        prog="nemoclaw doctor",
        description="Say what this host can enforce, what a policy needs, and how to fix what is "
        "missing. Exit status 0 when an agent would start under the policy, else 1.",
    )
    parser.add_argument(
        "-p",
        "--policy",
        metavar="POLICY",
        help=f"NAME, FILE or FILE:NAME (default: {DEFAULT}, and every other policy by name)",
    )
    parser.add_argument("-C", "--workdir", metavar="DIR", help="what {workdir} stands for")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser


def diagnose(selector: str | None, workdir: str | None) -> Report:
    """Ask the kernel, and compile the policies.

    :param selector: the policy; None for the default one, and after it every other by name.
    :raises UsageError: ``workdir`` is given and is none.
    """
    found = examine()
    settings = Settings.here()
    checks = tuple(
        Check(answer=answer, remedy=remedy(answer, found.host.uid, settings))
        for answer in (*found.answers, libseccomp())
    )
    note, stand_in = "", None
    try:
        chosen = choose_workdir(workdir, selector)
    except UsageError as error:
        if workdir is not None:
            raise
        # People ask the doctor from their home directory, where nobody should start an agent.
        note = f"{error.what}; an empty directory stands for the work directory here"
        chosen = stand_in = tempfile.mkdtemp(prefix="nemoclaw-doctor-")
    try:
        context = planning.context_for(chosen)
        names = [selector] if selector is not None else [DEFAULT, *_other_names(context)]
        verdicts = tuple(judge(name, context, found.host) for name in names)
    finally:
        if stand_in is not None:
            shutil.rmtree(stand_in)
    settings_report = report_settings(os.environ)
    return Report(
        found=found, checks=checks, verdicts=verdicts, settings=settings_report, note=note
    )


def _other_names(context: Context) -> Iterator[str]:
    """Policies that a name would find, besides the default one."""
    from ..policy.check import read_shipped
    from ..policy.locate import candidates, read_file

    seen = {DEFAULT}
    sources = []
    for path in candidates(context):
        try:
            sources.append(read_file(path, context)[0])
        except NemoclawError:
            continue  # Missing, or broken: then the verdict on the default policy says so.
    sources.append(read_shipped()[0])
    for source in sources:
        for name in source.document.policy:
            if name not in seen:
                seen.add(name)
                yield name


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    host = attrs.asdict(report.found.host)
    host["namespaces"] = sorted(host["namespaces"])
    host["cgroup_paths"] = dict(host["cgroup_paths"])
    return {
        "runs": report.runs,
        "host": host,
        "checks": [
            {
                "subject": check.answer.subject,
                "works": check.answer.works,
                "detail": check.answer.detail,
                "remedy": check.remedy,
            }
            for check in report.checks
        ],
        "policies": [_verdict_data(verdict) for verdict in report.verdicts],
        "settings": {
            "file": report.settings.file,
            "lines": list(report.settings.lines),
            "error": _error_data(report.settings.error),
        },
        "note": report.note,
    }


def _verdict_data(verdict: Verdict) -> dict[str, Any]:
    return {
        "policy": verdict.policy,
        "compatibility": verdict.compatibility,
        "runs": verdict.runs,
        "strict": verdict.strict,
        "error": _error_data(verdict.error),
        "layers": [
            {
                "plugin": layer.plugin,
                "hook": layer.hook,
                "status": layer.status,
                "required": layer.required,
                "gaps": [
                    {**attrs.asdict(gap), "blocks_strict": gap in verdict.blocking}
                    for gap in layer.gaps
                ],
                "notes": list(layer.notes),
            }
            for layer in verdict.layers
        ],
        "unreachable_programs": [attrs.asdict(each) for each in verdict.unreachable],
    }


def _error_data(error: NemoclawError | None) -> dict[str, str] | None:
    return None if error is None else {"code": error.code, "text": str(error)}


def as_text(report: Report) -> Iterator[str]:
    """The report for people, line by line."""
    host = report.found.host
    yield f"Linux {host.kernel} on {host.machine}, uid {host.uid}"
    yield ""
    width = max(len(check.answer.subject) for check in report.checks)
    for check in report.checks:
        mark = "ok" if check.answer.works else "--"
        yield f"  {mark}  {check.answer.subject:<{width}}  {check.answer.detail}"
        if check.remedy:
            yield f"      {'':<{width}}  fix: {check.remedy}"
    if report.note:
        yield ""
        yield f"note: {report.note}"
    yield from _settings_text(report.settings)
    for verdict in report.verdicts:
        yield ""
        yield from _verdict_text(verdict)


def _settings_text(settings: SettingsReport) -> Iterator[str]:
    if settings.file or settings.lines:
        yield ""
        yield f"settings: {settings.file or 'none'}"
    if settings.error is not None:
        yield "  nothing whose network has rules would start:"
        lines = str(settings.error).splitlines()
    else:
        lines = list(settings.lines)
    yield from (f"  {line}" for line in lines)


def _verdict_text(verdict: Verdict) -> Iterator[str]:
    if verdict.error is not None:
        yield f"policy {verdict.policy}: would be refused"
        for line in str(verdict.error).splitlines():
            yield f"  {line}"
        return
    loose = any(layer.gaps for layer in verdict.layers)
    if verdict.strict and not loose:
        outcome = "would run, with all of it enforced"
    elif verdict.strict:
        outcome = "would run, with all of it enforced, some less tightly than written"
    elif verdict.runs:
        outcome = "would run, with gaps"
    else:
        outcome = "would be refused"
    yield f"policy {verdict.policy} ({verdict.compatibility}): {outcome}"
    for layer in verdict.layers:
        required = ", required" if layer.required else ""
        yield f"  {layer.plugin}.{layer.hook}: {layer.status}{required}"
        for gap in layer.gaps:
            kind = "not enforced" if gap in verdict.blocking else "looser than written"
            yield f"    {kind}: {gap.what}"
            yield f"      {gap.consequence}"
            yield f"      fix: {gap.remedy}"
            if gap.origin:
                yield f"      from {gap.origin}"
        yield from (f"    note: {note}" for note in layer.notes)
    for each in verdict.unreachable:
        outcome = f"gets {each.instead} for" if each.instead else "cannot start"
        yield f"  the agent {outcome} {each.command}: {each.path} {each.because}"
        if each.remedy:
            yield f"    fix: {each.remedy}"
