"""What nemoclaw refuses it refuses in words: what, which policy line, what to do."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nemoclaw_core.supervisor.refusals import not_started
from nemoclaw_core.supervisor.session import Command

STORY = ("process-launched", "process-ended", "sandbox-refused")
"""Events that tell what became of a command."""
SHOWS_NO_WORKDIR = 'version = 1\n[policy.default]\nextends = ["base"]\n'


def told(done: subprocess.CompletedProcess[bytes], status: int) -> str:
    """The message of a refusal: for people, in two lines, the second a remedy."""
    text = done.stderr.decode()
    assert done.returncode == status, text
    assert "Traceback" not in text
    lines = text.splitlines()
    assert len(lines) == 2, text
    assert lines[0].startswith("nemoclaw: ")
    assert lines[1].startswith("  remedy: ")
    return text


def policy(cli: Any, body: str) -> str:
    """A policy file beside the work directory, out of the agent's reach."""
    path: Path = cli.home / "mine.toml"
    path.write_text(body)
    return str(path)


def program(path: Path, text: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_command_that_nobody_has(cli: Any) -> None:
    text = told(cli.sandbox("no-such-command"), 127)
    assert "no-such-command: not found inside the sandbox" in text
    assert "not on your PATH either" in text
    assert "not at this path on the host either" in told(cli.sandbox("./no-such-file"), 127)


def test_a_command_that_the_policy_does_not_show(cli: Any) -> None:
    folder = cli.home / "tools"
    program(folder / "bin" / "tool")
    text = told(cli.sandbox(str(folder / "bin/tool")), 127)
    assert f"on the host it is {folder}/bin/tool, which the policy does not show" in text
    assert f'filesystem.read ("{folder}")' in text
    # A remedy that would show the whole home directory is none.
    program(cli.home / "bin" / "mine")
    assert f'("{cli.home}/bin")' in told(cli.sandbox(str(cli.home / "bin/mine")), 127)
    own = {"PATH": f"{cli.home}/bin:/usr/bin:/bin"}
    assert f'("{cli.home}/bin")' in told(cli.sandbox("mine", env=own), 127)


def test_a_script_whose_interpreter_is_not_there_is_not_blamed_itself(cli: Any) -> None:
    program(cli.work / "script", "#!/opt/none/python -x\n")
    text = told(cli.sandbox("./script"), 127)
    assert "what runs it, /opt/none/python, is not found inside the sandbox" in text
    assert str(cli.work / "script") in text
    assert "the host does not have it either" in text
    assert "filesystem.read" not in text


def test_a_command_outside_the_path_inside_is_named_by_its_path(cli: Any) -> None:
    program(cli.work / "tools" / "mine")
    # PATH is not passed on.
    body = 'version = 1\n[policy.default.filesystem]\nread = ["/usr"]\nwrite = ["{workdir}"]\n'
    arguments = ("run", "-p", policy(cli, body), "--", "mine")
    text = told(cli.run(*arguments, env={"PATH": f"{cli.work}/tools:/usr/bin"}), 127)
    assert f"{cli.work}/tools/mine is there, and not on the PATH inside" in text


def test_a_file_that_is_no_program(cli: Any) -> None:
    program(cli.work / "plain", mode=0o644)
    assert f"chmod +x {cli.work}/plain" in told(cli.sandbox("./plain"), 126)
    program(cli.work / "words", "words\n")
    assert "a script needs a first line" in told(cli.sandbox("./words"), 126)
    (cli.work / "folder").mkdir()
    assert "is a directory, not a program" in told(cli.sandbox("./folder"), 126)


def test_a_denied_program_names_the_line_that_denies_it(cli: Any) -> None:
    program(cli.work / ".env")
    text = told(cli.sandbox("./.env"), 126)
    assert "filesystem.deny[1]: ./.env: Permission denied" in text
    assert "policies.toml:" in text


def test_a_work_directory_that_is_not_shown_is_named_and_not_the_command(cli: Any) -> None:
    text = told(cli.run("run", "-p", policy(cli, SHOWS_NO_WORKDIR), "--", "true"), 2)
    assert f"the directory to start in, {cli.work}, is not there inside the sandbox" in text
    assert f'add "{cli.work}" to filesystem.read or filesystem.write' in text
    assert "true" not in text


def test_exec_in_a_directory_that_is_not_shown(cli: Any) -> None:
    cli.run("run", "--detach", "--name", "worker", "--", "sleep", "60")
    try:
        text = told(cli.run("exec", "-C", str(cli.home / "no"), "worker", "--", "true"), 2)
        assert f"the directory to start in, {cli.home}/no, is not there inside" in text
        assert "no directory on the host either" in text
        text = told(cli.run("exec", "-C", "/var/log", "worker", "--", "true"), 2)
        assert 'add "/var/log" to filesystem.read' in text
    finally:
        cli.run("stop", "--grace", "0", "worker")


def test_exec_is_logged_as_what_happened(cli: Any) -> None:
    """It is about to run; then it ended, or could not be executed."""
    cli.run("run", "--detach", "--name", "worker", "--", "sleep", "60")
    try:
        cli.run("exec", "worker", "--", "no-such-command")
        assert cli.run("exec", "worker", "--", "true").returncode == 0
    finally:
        cli.run("stop", "--grace", "0", "worker")
    events = [
        (event["metadata"]["event_code"], event["unmapped"]["role"], event["process"]["name"])
        for event in cli.events("worker")
        if event["metadata"]["event_code"] in STORY
    ]
    assert events == [
        ("process-launched", "agent", "sleep"),
        ("process-launched", "exec", "no-such-command"),
        ("sandbox-refused", "exec", "no-such-command"),
        ("process-launched", "exec", "true"),
        ("process-ended", "exec", "true"),
        ("process-ended", "agent", "sleep"),
    ]


def test_a_command_that_could_not_be_executed_is_not_logged_as_ended(cli: Any) -> None:
    cli.run("run", "--name", "box", "--", "no-such-command")
    events = [e for e in cli.events("box") if e["metadata"]["event_code"] in STORY]
    assert [e["metadata"]["event_code"] for e in events] == ["process-launched", "sandbox-refused"]
    assert events[0]["message"].startswith("starting no-such-command")
    assert events[0]["status_id"] == 0  # OCSF: unknown


def test_a_timeout_says_whose_it_was(cli: Any) -> None:
    text = told(cli.run("run", "--timeout", "0.2", "--", "sleep", "60"), 124)
    assert text.startswith("nemoclaw: --timeout: ")
    assert "was ended after 0.2 s" in text
    body = 'version = 1\n[policy.default]\nextends = ["default"]\nprocess.timeout = "200ms"\n'
    file = policy(cli, body)
    for _ in range(2):  # The second plan comes from the cache, and knows the line as well.
        text = told(cli.run("run", "-p", file, "--", "sleep", "60"), 124)
        assert text.startswith(f"nemoclaw: {file}:4 policy.default.process.timeout: ")
        assert "--timeout TIME" in text


@pytest.mark.parametrize(
    ("word", "problem"), [("SECRET", "has no `=`"), ("=SECRET", "has no name"), ("", "has no name")]
)
def test_a_malformed_variable_is_refused_and_not_shown(cli: Any, word: str, problem: str) -> None:
    text = told(cli.run("run", "--env", "A=b", "--env", word, "--", "true"), 2)
    assert f"--env, number 2 of them: what was given {problem}" in text
    assert "--env NAME=VALUE" in text
    assert "SECRET" not in text


def test_a_policy_that_is_not_there(cli: Any) -> None:
    text = told(cli.run("run", "-p", "./none.toml", "--", "true"), 3)
    assert f"{cli.work}/none.toml: there is no such policy file" in text
    assert "check the path" in text
    text = told(cli.run("run", "-p", "/no/such/none.toml", "--", "true"), 3)
    assert "there is no directory /no/such" in text
    text = told(cli.run("run", "-p", "none", "--", "true"), 3)
    assert 'there is no policy "none"' in text
    assert "There is base, default, readonly" in text


def test_a_file_that_was_meant_as_a_name(cli: Any) -> None:
    (cli.work / "mine").write_text("")
    text = told(cli.run("run", "-p", "mine", "--", "true"), 3)
    assert "write ./mine if you mean that file" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--json",), "--json says nothing without --dry-run"),
        (("--detach", "--dry-run"), "--dry-run starts nothing"),
        (("--timeout", "soon", "--dry-run"), "--timeout: 'soon' is not a duration"),
        (("--timeout", "-1"), "--timeout: '-1' is not a duration"),
        (("--dry-run=x",), "--dry-run takes no value"),
    ],
)
def test_options_that_make_no_sense_start_nothing(
    cli: Any, options: tuple[str, ...], words: str
) -> None:
    assert words in told(cli.run("run", *options, "--", "touch", "made"), 2)
    assert not (cli.work / "made").exists()


@pytest.mark.parametrize(
    ("arguments", "page"),
    [
        (("run", "--no-such", "--", "true"), "run"),
        (("run", "--policy"), "run"),
        (("exec", "--no-such", "box", "--", "true"), "exec"),
        (("ps", "--no-such"), "ps"),
        (("ps", "--js"), "ps"),
        (("stop",), "stop"),
        (("logs", "--prune", "soon"), "logs"),
        (("logs", "--verify", "--output", "box"), "logs"),
        (("plugins", "more"), "plugins"),
        (("doctor", "--policy"), "doctor"),
        (("demo", "more"), "demo"),
        (("schema", "more"), "schema"),
        (("version", "more"), "version"),
        (("policy",), "policy"),
        (("policy", "chekc"), "policy"),
        (("policy", "check"), "policy check"),
        (("policy", "diff", "default"), "policy diff"),
        (("policy", "trust", "--json", "x"), "policy trust"),
    ],
)
def test_every_command_refuses_in_one_style(
    cli: Any, arguments: tuple[str, ...], page: str
) -> None:
    text = told(cli.run(*arguments), 2)
    assert f"`nemoclaw {page} --help`" in text or f"`nemoclaw {page.split()[0]} --help`" in text


def test_a_command_that_does_not_exist_is_told_with_the_nearest(cli: Any) -> None:
    text = told(cli.run("rnu"), 2)
    assert "did you mean run?" in text
    assert "`nemoclaw --help`" in text


def test_bare_seconds_are_a_timeout_and_0_is_none(cli: Any) -> None:
    assert cli.run("run", "--timeout", "0", "--", "sleep", "0.1").returncode == 0
    assert b"90 (seconds)" in cli.run("run", "--help").stdout


@pytest.fixture
def theirs(cli: Any) -> Path:
    """A project of root's, which an ordinary user may read."""
    folder: Path = cli.home.parent / "theirs"
    folder.mkdir(mode=0o755)
    return folder


def test_a_work_directory_of_somebody_else_says_what_was_tried(cli: Any, theirs: Path) -> None:
    if theirs.stat().st_uid == os.getuid():
        pytest.skip("whoever runs this can write everywhere in it")
    text = told(cli.run("run", "--", "true", cwd=theirs), 125)
    assert f"{theirs}/policies.toml is denied and does not exist" in text
    assert "an empty directory had to be made there" in text
    assert f"you may not write in {theirs} (Permission denied)" in text
    assert "--workdir" in text


def test_a_directory_in_the_place_of_a_policy_file_stops_every_start(cli: Any) -> None:
    assert cli.sandbox("true").returncode == 0  # now there is a plan in the cache
    (cli.work / "policies.toml").mkdir()
    for _ in range(2):
        text = told(cli.sandbox("true"), 3)
        assert f"{cli.work}/policies.toml: is a directory" in text
        assert f"rmdir {cli.work}/policies.toml" in text
        (cli.work / "policies.toml/x").touch()


def test_what_a_running_sandbox_keeps_there_stops_no_other(cli: Any) -> None:
    cli.run("run", "--detach", "--name", "worker", "--", "sleep", "60")
    try:
        assert (cli.work / "policies.toml").is_dir()
        for _ in range(2):
            assert cli.sandbox("true").returncode == 0
        # Somebody has put something into it: that is no mount point any more.
        (cli.work / "policies.toml/x").touch()
        assert "is a directory" in told(cli.sandbox("true"), 3)
        (cli.work / "policies.toml/x").unlink()
        assert cli.sandbox("true").returncode == 0
    finally:
        cli.run("stop", "--grace", "0", "worker")
    assert not (cli.work / "policies.toml").exists()


def test_a_dry_run_says_file_and_line_of_every_step_that_has_one(cli: Any) -> None:
    done = cli.run("run", "--dry-run", "--json", "--", "true")
    steps = json.loads(done.stdout)["steps"]
    for step in steps:
        if step["plugin"] != "core":
            fixed = step["origin"].startswith("nemoclaw")
            assert fixed or "policies.toml:" in step["origin"], step
    (spaces,) = [step for step in steps if "mount" in step.get("namespaces", ())]
    assert spaces["origin"].endswith(" policy.base.filesystem.read")
    (ruleset,) = [step for step in steps if step["op"] == "landlock_ruleset"]
    assert ruleset["origin"].endswith(" plugins.enable[1]")
    shown = cli.run("run", "--dry-run", "--env", "MINE=secret", "--", "true").stdout.decode()
    assert "/usr from " in shown
    assert "/proc from default" in shown
    assert "MINE=..." in shown
    assert "secret" not in shown


def test_a_dry_run_calls_what_no_file_says_a_default(cli: Any) -> None:
    file = policy(cli, 'version = 1\n[policy.default.filesystem]\nwrite = ["{workdir}"]\n')
    shown = cli.run("run", "-p", file, "--dry-run", "--", "true").stdout.decode()
    assert "from filesystem.read (default)" in shown
    assert "from syscalls.profile (default)" in shown
    assert f"from {file}:3 policy.default.filesystem.write[0]" in shown


CLOSED = "grep -c : /proc/net/dev"
RULES = '[[policy.default.network.allow]]\nhost = "api.github.com"\n'


@pytest.mark.parametrize("compatibility", ["strict", "best-effort"])
@pytest.mark.parametrize("rules", ["", RULES])
def test_a_policy_with_a_proxy_does_what_its_page_says(
    cli: Any, compatibility: str, rules: str
) -> None:
    head = 'version = 1\n[policy.default]\nextends = ["default"]\nnetwork.mode = "proxy"\n'
    best = "" if compatibility == "strict" else 'filesystem.compatibility = "best-effort"\n'
    file = policy(cli, f"{head}{best}{rules}")
    done = cli.run("run", "-p", file, "--", "sh", "-c", CLOSED)
    assert (done.returncode, done.stdout) == (0, b"1\n")  # the loopback, and nothing else
    assert b"not enforced (netns)" not in done.stderr


def test_what_a_plugin_hides_is_not_blamed_on_a_line_of_deny() -> None:
    def told_of(origin: str, plugin: str) -> str:
        mask = {"op": "mask", "target": "/usr/bin/true", "origin": origin, "plugin": plugin}
        show = {"op": "bind_mount", "source": "/usr", "target": "/usr", "origin": ""}
        plan = {"steps": [{"op": "enter_view"}, show, mask]}
        command = Command(["/usr/bin/true"], environment={}, workdir="/")
        return str(not_started(plan, command, errno.EACCES, "/usr/bin/true", "/usr/bin"))

    assert "take it out of deny" in told_of("p.toml:4 policy.a.filesystem.deny[0]", "mounts")
    assert "the plugin hider hides it" in told_of("p.toml:9 plugins.enable[4]", "hider")
    assert "no policy shows it" in told_of("nemoclaw walls", "mounts")
