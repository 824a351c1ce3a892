"""``nemoclaw demo``: watch a scripted agent do its work, and fail to get out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nemoclaw_hookspecs.errors import NemoclawError

from .. import names
from ..demo import stage, table
from ..state import cache_dir, state_dir
from .arguments import Parser


def main(argv: list[str]) -> int:
    """Run the demo; 0 when the agent could do its work and nothing else."""
    parser = Parser(
        "nemoclaw demo", description="Watch a scripted agent do its work, and fail to get out."
    )
    parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="nemoclaw-demo-") as folder,
        stage.Stage(Path(folder).resolve()) as scene,
    ):
        return _play(scene)


def _play(scene: stage.Stage) -> int:
    name = names.new_name()
    environment = {
        **os.environ,
        "HOME": str(scene.home),
        "XDG_STATE_HOME": os.path.dirname(state_dir()),
        "XDG_CACHE_HOME": os.path.dirname(cache_dir()),
        "XDG_RUNTIME_DIR": str(scene.home.parent),
    }
    common = ["run", "--policy", f"{scene.policy}:demo", "--workdir", str(scene.project)]
    command = ["--", stage.interpreter(), str(scene.agent), str(scene.info)]
    plan = json.loads(_nemoclaw([*common, "--dry-run", "--json", *command], environment))
    print(f"sandbox {name}, policy {plan['policy']}\n")
    output = _nemoclaw([*common, "--name", name, *command], environment)
    lines = [json.loads(line) for line in output.splitlines()]
    done = {line["name"] for line in lines if line["kind"] == "attempt"}
    good = _show_work(lines) & _show_attempts(plan, lines) & (done == set(table.ATTEMPTS))
    print(f"\nevents: {os.path.join(state_dir(), name, 'events.jsonl')}")
    print(f"        nemoclaw logs {name} shows them")
    return 0 if good else 1


def _nemoclaw(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nemoclaw_core.cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise NemoclawError(f"the demo's sandbox ended with {done.returncode}")
    return done.stdout.decode()


def _show_work(lines: list[dict[str, Any]]) -> bool:
    print("its work, which must succeed")
    good = True
    for line in lines:
        if line["kind"] == "work":
            good &= "got" in line
            print(f"  {line['name']:<32}{line.get('got', line.get('error'))}")
    return good


def _show_attempts(plan: dict[str, Any], lines: list[dict[str, Any]]) -> bool:
    print("\nits attempts, which must fail")
    good = True
    for line in lines:
        if line["kind"] != "attempt":
            continue
        title = table.ATTEMPTS[line["name"]].title
        stopped = table.explain(plan, line)
        if stopped is None:
            good = False
            print(f"  {title:<32}NOT STOPPED as it should be: {line.get('got', line.get('error'))}")
            continue
        words, origin = stopped
        print(f"  {title:<32}{line['error']}")
        print(f"  {'':<32}  by: {words}; {_shorten(origin)}")
    return good


def _shorten(origin: str) -> str:
    """An origin without the folders of its file."""
    file, colon, rest = origin.partition(":")
    return f"{os.path.basename(file)}{colon}{rest}"
