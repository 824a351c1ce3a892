"""Runs scripts, a few at a time: ``python3 runner.py JOBS.json``, inside a sandbox and outside.

A job is ``{"id", "script", "folder", "variables"}``. Prints JSON: by id, what it printed and how it
exited. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

AT_ONCE = 3
SECONDS = 40


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One job, in a new folder below its own."""
    folder = Path(job["folder"]) / job["id"]
    folder.mkdir()
    for file in Path(job["folder"]).glob("client.*"):
        (folder / file.name).symlink_to(file)
    variables = {**os.environ, **job["variables"]}
    try:
        done = subprocess.run(
            ["bash", "-c", job["script"]],
            cwd=folder,
            env={name: value for name, value in variables.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as late:
        return {"code": -1, "said": (late.stdout or b"").decode(errors="replace") + " (too slow)"}
    return {"code": done.returncode, "said": done.stdout.decode(errors="replace")}


if __name__ == "__main__":
    jobs = json.loads(Path(sys.argv[1]).read_text())
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = pool.map(run, jobs)
    print(json.dumps({job["id"]: done for job, done in zip(jobs, results, strict=True)}))
