"""What nemoclaw's own code is imported from: an agent that could write there would be out of its
walls at the next start, or as soon as the running one imports another module."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from importlib.machinery import all_suffixes
from importlib.util import find_spec

import attrs

from nemoclaw_core import imports
from nemoclaw_core.discovery import discover


@attrs.frozen(slots=True)
class Code:
    """A path that code of nemoclaw's is imported from, or would be, were something there."""

    path: str
    """Absolute; symbolic links are not followed yet."""
    whole: bool = True
    """No agent may write anything in it. Otherwise none is given all of it: a rule of the policy
    for something below holds."""


def of_this_process() -> tuple[Code, ...]:
    """What the running interpreter and nemoclaw itself are made of."""
    found = [Code(each, whole=False) for each in imports.prefixes_of_python()]
    found += [Code(each) for each in dict.fromkeys((*_folders(), *_files(), *_unwanted()))]
    return tuple(found)


def of_plugins(enabled: Collection[str]) -> tuple[Code, ...]:
    """What the plugins of a policy are imported from. Imports none of them.

    What cannot be found is left out: loading it is then an error.

    :raises PluginError: an installed distribution's metadata cannot be read.
    """
    found: dict[str, None] = {}
    for each in discover():
        if each.name not in enabled:
            continue
        if each.entry_point.dist is not None:
            imports.let_in(each.entry_point.dist)
        try:
            spec = find_spec(each.entry_point.module.partition(".")[0])
        except (ImportError, ValueError):
            continue
        if spec is None:
            continue
        places = [*(spec.submodule_search_locations or ())]
        places += [spec.origin] if spec.has_location and spec.origin and not places else []
        for place in map(os.path.abspath, places):
            found[place] = None
            if imports.is_settled() or imports.is_pythons(os.path.dirname(place)):
                found[os.path.dirname(place)] = None
    return tuple(map(Code, found))


def _folders() -> Iterator[str]:
    yield imports.LIBRARY
    yield from (each for each in sys.path if imports.is_pythons(each))
    site = sys.modules.get("site")
    # It is looked into as soon as it is there.
    if site is not None and site.ENABLE_USER_SITE and site.USER_SITE:
        yield os.path.abspath(site.USER_SITE)
    if imports.is_settled():
        yield from imports.named_by_user()
        yield os.path.dirname(imports.CONTRACT)
    yield imports.CORE
    yield imports.CONTRACT
    if sys.pycache_prefix:
        yield os.path.abspath(sys.pycache_prefix)


def _files() -> Iterator[str]:
    if sys.executable:
        yield sys.executable
        yield os.path.realpath(sys.executable)
    if imports.script():
        yield imports.script()


def _unwanted() -> Iterator[str]:
    """Modules that the next interpreter would import while it starts, before the command can take
    such directories off the path; in each directory of sources that is there to be written."""
    own = {
        os.path.basename(each): os.path.dirname(each) for each in (imports.CORE, imports.CONTRACT)
    }
    names = ["sitecustomize"]
    names += ["usercustomize"] if getattr(sys.modules.get("site"), "ENABLE_USER_SITE", 0) else []
    names = [each for each in names if not _is_installed(each)]
    names += [name for name, folder in own.items() if not imports.is_pythons(folder)]
    folders = list(imports.left_out())
    if not imports.is_pythons(own[os.path.basename(imports.CORE)]):
        folders.append(os.path.dirname(imports.CORE))
    for folder in dict.fromkeys(folders):
        for name in names:
            if own.get(name) != folder:
                yield from (f"{folder}/{name}{suffix}" for suffix in ("", *all_suffixes()))


def _is_installed(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    return bool(file) and imports.is_pythons(os.path.dirname(os.path.abspath(str(file))))
