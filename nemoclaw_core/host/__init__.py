"""What this kernel and this user can do, by trying it.

Nothing here reads a version string. Each fact is a system call that worked, made where possible
exactly as the launcher will make it, in a child process that keeps the consequences. It takes some
10 ms and runs when a plan is compiled, not when one is started from the cache.
"""

from __future__ import annotations

import os

import attrs
from nemoclaw_hookspecs.host import NAMESPACES, Host

from . import groups, idmaps, namespaces, netfilter, seals
from .answers import Answer

__all__ = ["Answer", "Examination", "examine", "probe"]


@attrs.frozen(slots=True, kw_only=True)
class Examination:
    """The facts, and the kernel's own answers that they follow from."""

    host: Host
    answers: tuple[Answer, ...]

    def answer(self, subject: str) -> Answer:
        """The answer about one subject.

        :raises KeyError: nothing was asked about it.
        """
        for each in self.answers:
            if each.subject == subject:
                return each
        raise KeyError(subject)


_CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine, NixOS
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",
)


def probe() -> Host:
    """The facts that plans are made for."""
    return examine().host


def examine() -> Examination:
    """Ask the kernel everything, and keep its answers."""
    uid, gid = os.geteuid(), os.getegid()
    abi, landlock = seals.landlock()
    seccomp = seals.seccomp()
    kinds = namespaces.examine(uid, gid)
    nftables = netfilter.examine(uid, gid)
    idmapped = idmaps.examine()
    cgroups = groups.examine()
    machine = os.uname()
    made = [kind for kind, answer in zip(NAMESPACES, kinds, strict=True) if answer.works]
    host = Host(
        machine=machine.machine,
        kernel=machine.release,
        uid=uid,
        gid=gid,
        landlock_abi=abi,
        namespaces=made,
        seccomp=seccomp.works,
        idmapped_mounts=idmapped.works,
        cgroup=cgroups.version,
        cgroup_paths=cgroups.parents,
        merged_usr=os.path.islink("/bin"),
        nftables=nftables.works,
        ca_bundle=next(filter(os.path.isfile, _CA_BUNDLES), ""),
    )
    return Examination(
        host=host, answers=(landlock, seccomp, *kinds, nftables, idmapped, *cgroups.answers)
    )
