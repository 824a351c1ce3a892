"""Claims about reading a policy file: each slip is told with its line, and all of them at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nemoclaw_hookspecs import PolicyError

from nemoclaw_core.observe import LARGEST
from nemoclaw_core.policy import Context, load
from nemoclaw_core.policy.files import read_file

from .conftest import Ground, problems_of

HEAD = "version = 1\n[policy.default]\n"

# What is written from line 3 on, and the problem: line, key, what is said.
SLIPS = [
    ("exends = []", "3 policy.default.exends: unknown key", "did you mean extends?"),
    ("read = []", "3 policy.default.read: unknown key", "a key of [policy.NAME.filesystem]"),
    ("extends = 'base'", "3 policy.default.extends: is a string, not a list", "write it in [ ]"),
    (
        "extends = ['bse']",
        "3 policy.default.extends[0]: there is no policy",
        'did you mean "base"?',
    ),
    ("extends = ['a:b']", '3 policy.default.extends[0]: "a:b" is not a policy', ""),
    ("filesystem = 1", "3 policy.default.filesystem: is an integer, not a table", ""),
    ("filesystem.raed = []", "3 policy.default.filesystem.raed: unknown key", "did you mean read?"),
    ("filesystem.read = ['/a',\n'/b', 3]", "4 policy.default.filesystem.read[2]: is an int", ""),
    ("filesystem.read = ['']", "3 policy.default.filesystem.read[0]: a path cannot be empty", ""),
    ("filesystem.read = ['?']", "3 policy.default.filesystem.read[0]: a path cannot be", ""),
    ("filesystem.read = ['/a\\u0000']", "", ""),
    ('filesystem.read = ["/a\\u0000"]', "3 policy.default.filesystem.read[0]", "a NUL byte"),
    ("filesystem.read = ['/a/../b']", "3 policy.default.filesystem.read[0]", "holds `..`"),
    ("filesystem.read = ['a**/b']", "3 policy.default.filesystem.read[0]", "stand alone"),
    ("filesystem.read = ['~bob/x']", "3 policy.default.filesystem.read[0]", "another user"),
    ("filesystem.read = ['{wordir}']", "3 policy.default.filesystem.read[0]", "mean {workdir}?"),
    (
        "filesystem.read = ['{zzz}/a']",
        "3 policy.default.filesystem.read[0]",
        "{workdir} and {home}",
    ),
    ("filesystem.read = ['/x/{home}']", "3 policy.default.filesystem.read[0]", "not at the start"),
    ("filesystem.write = ['/']", "3 policy.default.filesystem.write[0]: everything", ""),
    ("filesystem.write = ['/./']", "3 policy.default.filesystem.write[0]: everything", ""),
    (
        "filesystem.write = ['{workdir}/a']\nfilesystem.deny = ['x', './a/']",
        '4 policy.default.filesystem.deny[1]: "./a/" is also in write',
        "",
    ),
    ("filesystem.tmp = 'privte'", "3 policy.default.filesystem.tmp", 'did you mean "private"?'),
    ("filesystem.tmp = true", "3 policy.default.filesystem.tmp: is true or false, not one of", ""),
    ("filesystem.compatibility = 'none'", "3 policy.default.filesystem.compatibility", ""),
    ("process.max_memory = '4GB'", "3 policy.default.process.max_memory", '"4GB" is not a size'),
    ("process.max_memory = -1", "3 policy.default.process.max_memory", "cannot be negative"),
    ("process.max_memory = 4", "3 policy.default.process.max_memory", "is the unit missing?"),
    ("process.max_memory = true", "3 policy.default.process.max_memory", "not a size"),
    ("process.max_processes = 0", "3 policy.default.process.max_processes", "from 1 to"),
    ("process.max_processes = 2.5", "3 policy.default.process.max_processes: is a number", ""),
    ("process.max_open_files = 3", "3 policy.default.process.max_open_files", "from 16 to"),
    ("process.timeout = 30", "3 policy.default.process.timeout: is an integer", '"30s"'),
    ("process.timeout = '-5s'", "3 policy.default.process.timeout", "is not a duration"),
    ("process.gpu = 'yes'", "3 policy.default.process.gpu: is a string, not true or false", ""),
    ("process.gpu = 1", "3 policy.default.process.gpu: is an integer, not true or false", ""),
    ("process.user = ''", "3 policy.default.process.user", "is not a user"),
    ("process.user = 'a b'", "3 policy.default.process.user", "is not a user"),
    ("process.environment.pass = ['A=1']", "3 policy.default.process.environment.pass[0]", ""),
    ("process.environment.set = {CI = 1}", "3 policy.default.process.environment.set.CI", ""),
    ("process.environment.set = {'A-B' = ''}", "3 policy.default.process.environment.set.A-B", ""),
    ("process.environment.sett = {}", "3 policy.default.process.environment.sett", "mean set?"),
    ("syscalls.profile = ''", "3 policy.default.syscalls.profile: cannot be empty", ""),
    ("syscalls.allow = ['open(2)']", "3 policy.default.syscalls.allow[0]", "as in syscalls(2)"),
    (
        "syscalls.allow = ['bpf']\nsyscalls.deny = ['bpf']",
        '4 policy.default.syscalls.deny[0]: "bpf" is also in allow',
        "",
    ),
    ("syscalls.action = 'trap'", "3 policy.default.syscalls.action", '"errno", "kill", "log"'),
    ("network.mode = 'open'", "3 policy.default.network.mode", '"proxy", "none"'),
    ("network.allow = [{}]", "3 policy.default.network.allow[0]: the key `host` is missing", ""),
    ("network.allow = [{host = 'a b'}]", "3 policy.default.network.allow[0].host", "not a host"),
    (
        "network.allow = [\n{host = 'a.b', ports = [\n0]}]",
        "5 policy.default.network.allow[0].ports[0]: a port is from 1 to 65535",
        "",
    ),
    ("network.allow = [{host = 'a.b', ports = []}]", "3 policy.default.network.allow[0].ports", ""),
    (
        "[[policy.default.network.allow]]\nhost = 'a.b'\ntls = 'passthrough'\nhttp = "
        "[{methods = ['GET'], path = '/'}]",
        "6 policy.default.network.allow[0].http: cannot work with tls",
        "",
    ),
    (
        "network.allow = [{host = 'a.b', credential = 'gh'}]",
        '3 policy.default.network.allow[0].credential: there is no credential "gh"',
        "",
    ),
    (
        "network.allow = [{host = 'a.b', http = [{methods = ['get'], path = '/'}]}]",
        "3 policy.default.network.allow[0].http[0].methods[0]",
        "upper case",
    ),
    (
        "network.allow = [{host = 'a.b', http = [{methods = [], path = '/a?b'}]}]",
        "3 policy.default.network.allow[0].http[0].path",
        "the path alone",
    ),
    (
        "network.allow = [{host = 'a.b', binaries = [7]}]",
        "3 policy.default.network.allow[0].binaries[0]: is an integer, not a path or a table",
        "",
    ),
    (
        "network.allow = [{host = 'a.b', binaries = [{path = '/x', sha256 = 'AB'}]}]",
        "3 policy.default.network.allow[0].binaries[0].sha256",
        "64 hexadecimal",
    ),
    (
        "network.allow = [{host = 'a.b', addresses = ['10.0.0.1/8']}]",
        "3 policy.default.network.allow[0].addresses[0]",
        "10.0.0.0/8",
    ),
    ("inference.default = 'clod'", '3 policy.default.inference.default: there is no backend "', ""),
    ("inference.sensitive = 'ask'", "3 policy.default.inference.sensitive: there is no", ""),
    (
        "inference.backends.local.type = 'onnx'\ninference.default = 'locl'",
        "4 policy.default.inference.default",
        'did you mean "local"?',
    ),
    ("inference.backends.ask.type = 'x'", "3 policy.default.inference.backends.ask", "a route"),
    ("inference.backends.a.model = 'x'", "3 policy.default.inference.backends.a: the key `ty", ""),
    (
        "[[policy.default.inference.rules]]\nlabels = ['x']\n\nroute = 'gone'",
        '6 policy.default.inference.rules[0].route: there is no backend "gone"',
        "",
    ),
    (
        "inference.rules = [{labels = [], route = 'deny'}]",
        "3 policy.default.inference.rules[0]",
        "",
    ),
    (
        "inference.rules = [{labels = ['a'], route = 'deny', min_confidence = nan}]",
        "3 policy.default.inference.rules[0].min_confidence",
        "from 0 to 1",
    ),
    (
        "inference.rules = [{labels = ['a'], route = 'deny', redact = 'all'}]",
        "3 policy.default.inference.rules[0].redact",
        "irreversible",
    ),
    ("inference.hosts = ['*.a.com']", "3 policy.default.inference.hosts[0]", "is a pattern"),
    ("[credential.x]\n", "3 credential.x: a credential comes from exactly one place", ""),
    ("[credential.x]\nfrom_fil = '~/k'", "4 credential.x.from_fil", "from_file"),
    ("[credential.x]\nfrom_env = 'A'\nfrom_file = 'b'", "3 credential.x", "exactly one place"),
    ("[credential.x]\nfrom_evn = 'A'\nplugin = 'y'", "", ""),
    ("[credential.x]\nfrom_env = 'A'\nfrm = 'b'", "5 credential.x.frm: unknown key", "from_env"),
    (
        "process.environment.pass = ['KEY']\n[credential.x]\nfrom_env = 'KEY'",
        '3 policy.default.process.environment.pass[0]: "KEY" holds the credential "x"',
        "",
    ),
    ("[plugins]\nenabled = []", "4 plugins.enabled: unknown key", "did you mean enable?"),
    ("[plugins]\nenable = ['landlock']", '4 plugins.enable: "mounts" is missing', ""),
    ("[plugins]\nrequired = ['audit']", '4 plugins.required[0]: "audit" is required', "enable"),
    ("[plugins.mounst]\nx = 1", '3 plugins.mounst: "mounst" is neither', 'did you mean "mounts"?'),
    ("[policies.x]", "3 policies: unknown key", "did you mean policy?"),
    ("[policy.'a b']", '3 policy."a b": "a b" is not a policy\'s name', ""),
    ("[policy.'x.toml']", '3 policy."x.toml"', "not a policy's name"),
]


@pytest.mark.parametrize(("body", "problem", "hint"), SLIPS)
def test_each_slip_is_told_with_its_line(body: str, problem: str, hint: str) -> None:
    found = problems_of(HEAD + body)
    if not problem:
        assert found == []
        return
    told = [each for each in found if each.startswith(problem)]
    assert len(told) == 1, found
    assert hint in told[0]


def test_all_slips_of_a_file_are_told_at_once_in_file_order() -> None:
    text = (
        "version = 2\nother = 3\n[policy.a]\nextends = ['b', 'nobody']\n"
        "[policy.b]\nextends = ['a']\nfilesystem.raed = 1\nfilesystem.read = ['', '/']\n"
        "filesystem.write = ['/']\nprocess.timeout = 1\n[credential.x]\n[plugins]\nenable = 3\n"
    )
    found = problems_of(text)
    assert [each.split(":")[0] for each in found] == [
        "1 version",
        "2 other",
        "4 policy.a.extends[0]",
        "4 policy.a.extends[1]",
        "6 policy.b.extends[0]",
        "7 policy.b.filesystem.raed",
        "8 policy.b.filesystem.read[0]",
        "9 policy.b.filesystem.write[0]",
        "10 policy.b.process.timeout",
        "11 credential.x",
        "13 plugins.enable",
    ]


def test_a_table_that_cannot_be_read_causes_no_second_error() -> None:
    text = HEAD + "[policy.default.inference]\ndefault = 'cloud'\nbackends.cloud = 3\n"
    assert len(problems_of(text)) == 1
    text = HEAD + "[[policy.default.network.allow]]\nhost = 'a.b'\ncredential = 'c'\n"
    text += "[credential.c]\nfrom_env = 1\n"
    assert len(problems_of(text)) == 1


@pytest.mark.parametrize("version", ["", "version = 2\n", "version = '1'\n", "version = true\n"])
def test_only_the_known_version_is_read(version: str) -> None:
    assert "version" in problems_of(f"{version}[policy.default]\n")[0]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("version = 1\nread = [\n", "3 end of file"),
        ("version = 1\n[policy.default\n", "2 column 16"),
        ("a = 1\na = 2\n", "2 column 6"),
        ("version = 1\n\nb = = 2", "3 column 5"),
    ],
)
def test_what_is_not_toml_is_told_with_line_and_column(text: str, place: str) -> None:
    (told,) = problems_of(text)
    assert told.startswith(f"{place}: is not TOML: ")


def test_what_is_not_utf8_is_told_with_its_line() -> None:
    assert problems_of(b"version = 1\n# \xff\n") == ["2 -: is not UTF-8 text"]


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 9999])
def test_what_python_cannot_hold_is_refused(text: str) -> None:
    assert "nested too deep" in problems_of(text)[0]


def test_an_error_is_a_policy_error_with_place_and_exit_code(ground: Ground) -> None:
    path = ground.write("version = 1\n[policy.default]\nprocess.gpu = 3\n")
    with pytest.raises(PolicyError) as caught:
        load(str(path), context=ground.context)
    assert caught.value.exit_code == 3
    assert caught.value.where == f"{path}:3 policy.default.process.gpu"
    assert caught.value.problems == (f"{caught.value.where}: is an integer, not true or false",)
    assert str(caught.value).startswith(f"1 problem in {path}\n")


def test_no_value_of_the_environment_is_repeated_in_an_error() -> None:
    text = HEAD + 'process.environment.set = { TOKEN = "hunter2\\u0000", B = 12345678 }'
    told = "\n".join(problems_of(text))
    assert "TOKEN" in told
    assert "hunter2" not in told
    assert "12345678" not in told


def refused_file(path: Path, context: Context) -> str:
    with pytest.raises(PolicyError) as caught:
        load(str(path), context=context)
    return str(caught.value)


def test_a_file_that_cannot_be_a_policy_is_refused(ground: Ground) -> None:
    folder = ground.root / "odd"
    folder.mkdir()
    assert "there is no such policy file" in refused_file(folder / "none.toml", ground.context)
    assert "is a directory" in refused_file(folder, ground.context)
    os.mkfifo(folder / "fifo.toml", 0o644)
    assert "not a regular file" in refused_file(folder / "fifo.toml", ground.context)
    large = ground.write("#" * (LARGEST + 1), "large.toml")
    assert "larger than 1 MiB" in refused_file(large, ground.context)
    just = ground.write("version = 1\n#" + "x" * (LARGEST - 13), "just.toml")
    assert 'no policy "default"' in refused_file(just, ground.context)
    assert "cannot be read" in refused_file(folder / ("x" * 300 + ".toml"), ground.context)


def test_a_file_that_others_could_have_written_is_refused(ground: Ground) -> None:
    path = ground.write("version = 1\n[policy.default]\nextends = ['base']\n")
    assert load(str(path), context=ground.context).name == "default"
    path.chmod(0o646)
    told = refused_file(path, ground.context)
    assert "anybody can write it" in told
    assert f"chmod o-w {path}" in told


def test_a_file_of_another_user_is_refused(ground: Ground) -> None:
    path = ground.write("version = 1\n")
    reader = os.geteuid() + 1
    if os.geteuid() == 0:
        os.chown(path, 4321, 4321)
    with pytest.raises(PolicyError, match=r"belongs to user \d+") as caught:
        read_file(str(path), reader)
    assert f"chown {reader} {path}" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(ground: Ground) -> None:
    path = ground.write("version = 1\n")
    path.chmod(0)
    assert "Permission denied" in refused_file(path, ground.context)
