"""From the paths that a policy writes down to rules about real paths of this host."""

from __future__ import annotations

import os

import attrs
from nemoclaw_hookspecs import FilesystemPolicy, Origin, PathRule
from nemoclaw_hookspecs.policy import Access

from . import crowds, gpu
from .access import covers
from .combine import WALLS, Combination, Found, Wall
from .contents import contents_beside
from .context import Context
from .document import Tmp
from .kept import Kept
from .merge import Merged, Written
from .own_code import Code
from .patterns import PathPattern
from .problems import Problem, quoted, quoted_path, refuse
from .walk import Observer, Walked


def resolve_filesystem(
    merged: Merged,
    context: Context,
    observer: Observer,
    walls: tuple[Wall, ...],
    problems: list[Problem],
    code: tuple[Code, ...] = (),
) -> FilesystemPolicy:
    """Resolve every path of ``merged`` once, and combine them into rules.

    :param walls: what is denied besides, after everything else.
    :param code: what is read-only besides, where it would be writable.
    :param problems: gets what is wrong; with any, the result is not to be used.
    :raises PolicyError: the work directory is not one.
    """
    resolving = _Resolving(merged, context, observer, problems)
    return resolving.run(walls, code)


class _Resolving:
    def __init__(
        self, merged: Merged, context: Context, observer: Observer, problems: list[Problem]
    ) -> None:
        self.merged = merged
        self.context = context
        self.observer = observer
        self.problems = problems
        self.strict = merged.get("filesystem.compatibility", "strict") == "strict"
        # The owner of `/` is the machine's root, also where a user namespace shows it as nobody.
        self.trusted = (0, context.uid, observer.entry("/").uid)
        self.anchors = {"root": "", "workdir": context.workdir, "home": context.home}
        self.combined = Combination(observer)
        self.notes: list[str] = []

    def run(self, walls: tuple[Wall, ...], code: tuple[Code, ...] = ()) -> FilesystemPolicy:
        workdir = self._workdir()
        found = [
            each
            for access in ("read", "write", "deny")
            for written in self.merged.items(f"filesystem.{access}")
            for each in self._find(access, written)
        ]
        granted = [each for each in found if each.access != "deny" and self._usable(each)]
        writable = [each.walked.path for each in granted if each.access == "write"]
        tmp: Tmp = self.merged.get("filesystem.tmp", "private")
        if tmp == "shared":
            writable.append("/tmp")
        for each in granted:
            # Agents that ran before may have written here too, whatever this policy says.
            self._links_are_ours(each, [*writable, workdir])
        denied = [self._within(each, writable) for each in found if each.access == "deny"]
        hidden = [self._wall(wall) for wall in walls]
        for each in (*denied, *hidden):
            self._links_hold(each, writable)
        kept = Kept(code, writable, self.observer)
        granted = [each for each in granted if kept.spares(each, self.problems)]
        for each in granted:
            self.combined.grant(each)
        if tmp == "shared" and "/tmp" not in self.combined.grants:
            # A grant like any other: what is denied below it must stay denied.
            self.combined.grants["/tmp"] = PathRule(
                path="/tmp",
                access="write",
                kind="directory",
                uid=-1,
                gid=-1,
                origin=self.merged.origins("filesystem")["tmp"],
            )
        if self.merged.get("process.gpu", False):
            self._grant_gpu()
        self._walls_are_outside(hidden, granted)
        kept.hold(self.combined, self.problems)
        for each in denied:
            self.combined.deny(each)
        self.combined.drop_void()
        for each in hidden:
            self.combined.deny(each)
        self.combined.drop_void()
        rules = self.combined.rules()
        return FilesystemPolicy(
            rules=rules,
            links=self.combined.visible_links(granted),
            tmp=tmp,
            workdir=workdir,
            home=self.observer.follow(self.context.home).path,
            origins=self.merged.origins("filesystem"),
            # A strict policy never starts where trees have to be granted piece by piece.
            contents={} if self.strict else contents_beside(rules, self.observer),
            notes=tuple(self.notes),
        )

    # --- looking

    def _grant_gpu(self) -> None:
        """Grant the GPU's device files like any others; what is denied stays denied."""
        origin = self.merged.origins("process")["gpu"]
        try:
            paths = gpu.devices(self.observer)
        except OSError as error:
            what = f"the GPU's device files cannot be looked up: {error.strerror}"
            self._problem(origin, what, f"look at {error.filename}", "/dev")
            return
        for path in paths:
            walked = Walked(path=path, entry=self.observer.entry(path))
            self.combined.grant(
                Found(
                    access="write",
                    walked=walked,
                    origin=origin,
                    text=path,
                    literal=False,
                    optional=True,
                )
            )

    def _workdir(self) -> str:
        before = len(self.problems)
        walked = self._follow(self.context.workdir)
        origin = Origin(file="nemoclaw", line=0, key="workdir")
        if walked.path == "/":
            remedy = "start in, or name with --workdir, the directory that the agent works in"
            self._problem(origin, "the work directory cannot be the root directory", remedy)
        elif walked.entry.kind != "directory" or walked.loop:
            self._problem(origin, f"{quoted_path(self.context.workdir)} is not a directory")
        if len(self.problems) > before:
            # Every other path would be judged against a work directory that is none.
            refuse(self.problems)
        return walked.path

    def _find(self, access: Access, written: Written[PathPattern]) -> list[Found]:
        """The paths that one entry stands for."""
        pattern = written.value
        base = self.anchors[pattern.anchor]
        if not pattern.wild:
            path = "/".join((base, *pattern.segments)) or "/"
            return [self._found(access, written, path, literal=True)]
        first = next(at for at, each in enumerate(pattern.segments) if "*" in each)
        start = "/".join((base, *pattern.segments[:first])) or "/"
        prefix = self._found(access, written, start, literal=False)
        real = prefix.walked.path
        if "*" in real:
            remedy = "name the paths one by one"
            self._problem(written.origin, f"{quoted(real)} itself holds a `*`", remedy, real)
            return []
        if not self._followable(prefix):
            return []
        try:
            matched, unlistable = self.observer.expand(
                "/".join((real.rstrip("/"), *pattern.segments[first:]))
            )
        except OSError as error:
            what = f"{quoted(pattern.text)} cannot be looked up: {error.strerror}"
            self._problem(written.origin, what, f"look at {quoted_path(str(error.filename))}", real)
            return []
        closed = unlistable if access == "deny" else []
        places = crowds.places(real, [*matched, *closed])
        if len(places) > crowds.MOST:
            busy = quoted_path(crowds.busiest(real, places))
            what = f"{quoted(pattern.text)} matches {len(matched)} paths"
            if closed:
                what += f", and {len(closed)} directories cannot be looked into"
            what += f", most of them in {busy}"
            remedy = f"take them away, or name {busy} in the place of what is in it"
            self._problem(written.origin, what, remedy, real)
            return []
        if access == "deny":
            # What a directory holds that cannot be listed is not known: it is denied whole.
            matched += closed
            self.notes += crowds.too_deep(written.origin, pattern.text, unlistable)
        found = [self._found(access, written, path, literal=False) for path in matched]
        # The way to the matches is checked like the matches.
        return [attrs.evolve(each, walked=_joined(prefix.walked, each.walked)) for each in found]

    def _found(
        self, access: Access, written: Written[PathPattern], path: str, *, literal: bool
    ) -> Found:
        return Found(
            access=access,
            walked=self._follow(path),
            origin=written.origin,
            text=written.value.text,
            literal=literal,
            optional=written.value.optional,
        )

    def _follow(self, path: str) -> Walked:
        """Walk a path. The work directory was found without a link in it: one that is there now was
        put there since, and may be gone the next moment."""
        walked = self.observer.follow(path)
        for step in walked.links:
            if covers(step.path, self.context.workdir):
                origin = Origin(file="nemoclaw", line=0, key="workdir")
                what = f"{quoted_path(step.path)} became a symbolic link while it was looked at"
                self._problem(origin, what, "see who changes it, and start again", step.path)
                refuse(self.problems)
        return walked

    def _within(self, each: Found, writable: list[str]) -> Found:
        """What is denied, without what a link leads to that an agent may have planted where it can
        write: it would choose what the next start hides, ``/usr`` for instance, or all of its work
        directory."""
        walked = each.walked
        planted = [step for step in walked.links if step.last and _in_any(writable, step.path)]
        if walked.loop or not planted or _inside_any(writable, walked.path):
            return each
        if walked.entry.kind not in ("missing", "unreadable"):
            self.notes.append(
                f"{each.origin}: {quoted_path(planted[0].path)} is denied, and what it links to is "
                f"not: {quoted_path(walked.path)} does not lie in what the agent can write. Deny "
                "it by its name if the agent shall not read it"
            )
        entry = attrs.evolve(self.observer.entry(planted[0].path), kind="file")
        itself = Walked(path=planted[0].path, entry=entry, links=tuple(planted))
        return attrs.evolve(each, walked=itself)

    def _wall(self, wall: Wall) -> Found:
        return Found(
            access="deny",
            walked=self._follow(wall.path),
            origin=WALLS,
            text=wall.path,
            literal=True,
            optional=False,
            wall=wall,
        )

    # --- judging

    def _usable(self, each: Found) -> bool:
        """Whether a grant leads to something; notes a problem where it should and does not."""
        walked = each.walked
        if not self._followable(each):
            return False
        if walked.entry.kind == "missing":
            if each.literal and not each.optional and self.strict:
                if walked.barrier:
                    what = f"{quoted(each.text)} does not exist: {walked.barrier} is a file"
                else:
                    what = f"{quoted(each.text)} does not exist"
                    what += "" if walked.path == each.text else f" (it is {walked.path})"
                remedy = f'create it, or write "{each.text}?" if it need not be there'
                self._problem(each.origin, what, remedy, walked.path)
            return False
        if walked.entry.kind == "fifo":
            # Read-only holds nobody from writing to one, so none is shown by itself.
            if each.literal:
                what = f"{quoted(each.text)} is a named pipe (FIFO), which cannot be granted"
                self._problem(each.origin, what, "name the directory that holds it", walked.path)
            return False
        if each.access == "write" and walked.path == "/":
            what = f"{quoted(each.text)} is the root directory: everything would be writable"
            self._problem(each.origin, what, "name the directories")
            return False
        return True

    def _followable(self, each: Found) -> bool:
        if each.walked.loop:
            what = f"{quoted(each.text)}: symbolic links lead in a circle"
            self._problem(each.origin, what, depends_on=each.walked.path)
            return False
        if each.walked.entry.kind == "unreadable" and each.access != "deny":
            what = f"{quoted(each.text)} cannot be looked at: permission denied"
            remedy = f"give yourself access to {each.walked.path}"
            self._problem(each.origin, what, remedy, each.walked.path)
            return False
        return True

    def _links_are_ours(self, each: Found, writable: list[str]) -> None:
        """Refuse to follow a link that somebody else, or an agent, could have made."""
        for step in each.walked.links:
            who = "the agent can" if _in_any(writable, step.path) else ""
            if not who and self.observer.written_before(os.path.dirname(step.path)) is not None:
                who = "an earlier agent could"
            if who:
                self._problem(
                    each.origin,
                    f"{step.path} is a symbolic link in a place that {who} write, "
                    f"so it could have been planted; it leads to {quoted_path(step.target)}",
                    f"if that is meant, write {each.walked.path} instead",
                    step.path,
                )
            elif step.uid not in self.trusted:
                self._problem(
                    each.origin,
                    f"{step.path} is a symbolic link of user {step.uid}, who can change it; "
                    f"it leads to {quoted_path(step.target)}",
                    f"if that is meant, write {each.walked.path} instead",
                    step.path,
                )

    def _links_hold(self, each: Found, writable: list[str]) -> None:
        """Refuse a denial that the agent could undo by replacing a link on the way."""
        for step in each.walked.links:
            if not step.last and any(covers(root, step.path) for root in writable):
                self._problem(
                    each.origin,
                    f"{quoted(each.text)} cannot be kept from the agent: it goes through "
                    f"{step.path}, a symbolic link that the agent can replace",
                    f"deny {step.path}, or replace it by what it leads to",
                    step.path,
                )

    def _walls_are_outside(self, hidden: list[Found], granted: list[Found]) -> None:
        for wall in hidden:
            for each in granted:
                if each.literal and wall.wall and covers(wall.walked.path, each.walked.path):
                    self._problem(
                        each.origin,
                        f"{quoted(each.text)} is {wall.wall.what}, which no agent may reach",
                        "take it out, or move it",
                    )

    def _problem(
        self, origin: Origin, what: str, remedy: str | None = None, depends_on: str = ""
    ) -> None:
        self.problems.append(Problem(origin, what, remedy, depends_on))


def _joined(prefix: Walked, walked: Walked) -> Walked:
    return attrs.evolve(
        walked,
        links=(*(attrs.evolve(step, last=False) for step in prefix.links), *walked.links),
    )


def _in_any(folders: list[str], path: str) -> bool:
    return any(covers(folder, path) for folder in folders)


def _inside_any(folders: list[str], path: str) -> bool:
    return any(folder != path and covers(folder, path) for folder in folders)
