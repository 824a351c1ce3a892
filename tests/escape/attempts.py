"""The program that attacks: ``python3 attempts.py NAME stage.json``.

Runs beside its package ``battery`` with nothing but the standard library, inside a sandbox and
outside of one. See ``battery/runner.py`` for what it prints and how it exits.
"""

from __future__ import annotations

import sys
from importlib import import_module

if __name__ == "__main__":
    sys.exit(import_module("battery.runner").main(sys.argv[1:]))
