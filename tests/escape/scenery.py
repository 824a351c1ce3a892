"""The files of a stage: what an attempt may want to read, change or connect to."""

from __future__ import annotations

import os
import shutil
from typing import Any

POLICY = """\
# {secret}
version = 1

[policy.escape]
extends = ["default"]
[policy.escape.filesystem]
read = ["{home}/shared", "{work}/vendor", "{work}/outer/inner/island", "{work}/.git/config?"]

[policy.next]
extends = ["escape"]
[policy.next.filesystem]
read = ["{work}/data"]

[policy.limits]
extends = ["escape"]
[policy.limits.process]
max_processes = 40
max_memory = "192MiB"
max_open_files = 64
"""


def build(facts: dict[str, Any], attempts: list[dict[str, Any]], secret: str) -> None:
    """Lay out the stage below ``facts["base"]`` and note in ``facts`` where things are.

    Nearly everything may be read by everybody: where root starts the agent as another user, it is
    the walls that have to stop it, not the owner of a file.
    """
    base, home, work, run = facts["base"], facts["home"], facts["work"], facts["run"]
    kinds = {described["stage"] for described in attempts}
    tool = f"#!/bin/sh\necho '{secret}'\n"

    def write(path: str, text: str = tool, mode: int = 0o755) -> None:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    for directory in (home, work, f"{work}/links", f"{home}/private", f"{run}/nemoclaw"):
        os.makedirs(directory, exist_ok=True)
    os.chmod(run, 0o700)
    os.chmod(f"{run}/nemoclaw", 0o700)
    write(f"{home}/.ssh/id_ed25519", mode=0o600)
    write(f"{home}/.bashrc", "# nothing\n", 0o644)
    write(f"{home}/.local/bin/nemoclaw", "#!/bin/sh\n", 0o755)
    write(f"{home}/.config/nemoclaw/policies.toml", f"# {secret}\nversion = 1\n", 0o600)
    write(f"{home}/.cache/nemoclaw/earlier.plan", mode=0o600)
    write(f"{home}/.local/state/nemoclaw/earlier/events.jsonl", mode=0o600)
    write(f"{home}/.local/state/nemoclaw/doomed/events.jsonl", mode=0o600)
    for name in (".config", ".cache", ".local/state"):
        os.chmod(f"{home}/{name}/nemoclaw", 0o700)
    write(f"{home}/private/file")
    os.symlink("/nowhere", f"{home}/link")
    os.mkfifo(f"{home}/fifo")
    os.chmod(f"{home}/fifo", 0o666)
    write(f"{work}/README", "A small project.\n", 0o644)
    write(f"{work}/.env", mode=0o644)
    write(f"{work}/outer/inner/island/file", mode=0o644)
    os.mkdir(f"{work}/data")
    if "no-git" not in kinds:
        write(f"{work}/.git/HEAD", "ref: refs/heads/main\n", 0o644)
        write(f"{work}/.git/config", "[core]\n\trepositoryformatversion = 0\n", 0o644)
        write(f"{work}/.git/hooks/pre-commit", "#!/bin/sh\n", 0o644)
        for name in ("objects", "refs"):
            os.makedirs(f"{work}/.git/{name}")
    for described in attempts:
        name = described["name"]
        target = f"{home}/targets/{name}/file"
        facts["attempts"][name] = {"target": target}
        write(target)
        os.symlink(target, f"{work}/links/{name}")
        write(f"{home}/shared/{name}/file", mode=0o644)
        write(f"{work}/vendor/{name}/file", mode=0o644)
        if described["dot_env"]:
            write(f"{work}/{name}/.env", mode=0o644)
            write(f"{work}/{name}/deep/down/.env", mode=0o644)
    policy = (
        f"{work}/policies.toml" if "policy-in-work" in kinds else f"{base}/policy/policies.toml"
    )
    write(policy, POLICY.format(secret=secret, home=home, work=work), 0o600)
    if "state-in-work" in kinds:
        write(f"{work}/state/nemoclaw/earlier/events.jsonl", mode=0o600)
        os.chmod(f"{work}/state/nemoclaw", 0o700)
    shared = {
        "tmp": f"/tmp/{facts['base_name']}-file",
        "shm": f"/dev/shm/{facts['base_name']}-file",
    }
    for path in shared.values():
        write(path)
    facts["policy"] = policy
    facts["paths"].update(shared, fifo=f"{home}/fifo")
    here = os.path.dirname(os.path.abspath(__file__))
    shutil.copy(f"{here}/attempts.py", f"{work}/attempts.py")
    shutil.copytree(f"{here}/battery", f"{work}/battery")


def remove(base: str) -> None:
    """Remove the stage and what it, or an attempt, left in the host's shared directories."""
    name = os.path.basename(base)
    left = [f"{base}/{entry}" for entry in os.listdir(base)]
    for directory in ("/tmp", "/dev/shm"):
        left += [
            f"{directory}/{entry}" for entry in os.listdir(directory) if entry.startswith(name)
        ]
    for path in left:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
