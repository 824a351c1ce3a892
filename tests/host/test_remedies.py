"""For each thing that a host can lack: the fix that its administrator would look for."""

from __future__ import annotations

import pytest

from nemoclaw_core.host import Answer
from nemoclaw_core.host.remedies import Settings, libseccomp, remedy

NOTHING_SET = Settings(sysctls={}, security_modules="")


def of(subject: str, detail: str = "EPERM from clone", *, uid: int = 1000, **set_: str) -> str:
    sysctls = {name.replace("__", "."): value for name, value in set_.items()}
    answer = Answer(subject=subject, works=False, detail=detail)
    return remedy(answer, uid, Settings(sysctls=sysctls, security_modules=""))


def test_what_works_needs_no_remedy() -> None:
    assert remedy(Answer(subject="landlock", works=True, detail="ABI 7"), 0, NOTHING_SET) == ""


def test_debians_switch_for_user_namespaces() -> None:
    told = of("namespace.user", kernel__unprivileged_userns_clone="0")
    assert "sysctl -w kernel.unprivileged_userns_clone=1" in told
    assert "/etc/sysctl.d/" in told


def test_a_limit_of_zero() -> None:
    told = of("namespace.network", "ENOSPC from clone", user__max_net_namespaces="0")
    assert told.startswith("as root: sysctl -w user.max_net_namespaces=")
    assert "max_user_namespaces" in of("namespace.mount", user__max_user_namespaces="0")


def test_ubuntus_restriction_by_apparmor() -> None:
    told = of(
        "namespace.mount",
        "EACCES from mount none at / inside the namespace",
        kernel__apparmor_restrict_unprivileged_userns="1",
    )
    assert "AppArmor profile" in told
    assert "kernel.apparmor_restrict_unprivileged_userns=0" in told


def test_every_switch_that_stands_in_the_way_is_named() -> None:
    told = of(
        "namespace.user", kernel__unprivileged_userns_clone="0", user__max_user_namespaces="0"
    )
    assert "unprivileged_userns_clone" in told
    assert "max_user_namespaces" in told


def test_root_is_not_told_about_switches_that_do_not_bind_it() -> None:
    told = of(
        "namespace.mount",
        uid=0,
        kernel__unprivileged_userns_clone="0",
        kernel__apparmor_restrict_unprivileged_userns="1",
        user__max_user_namespaces="0",
    )
    assert "sysctl" not in told
    assert "container" in told


def test_a_refusal_without_a_switch_points_at_containers() -> None:
    assert "container" in of("namespace.user", user__max_user_namespaces="96365")


def test_a_kernel_without_a_kind() -> None:
    assert "built with cgroup namespaces" in of("namespace.cgroup", "EINVAL from clone")


def test_a_limit_that_is_used_up() -> None:
    assert "user.max_user_namespaces" in of("namespace.user", "ENOSPC from clone")


def test_landlock_that_is_not_in_the_list() -> None:
    answer = Answer(subject="landlock", works=False, detail="switched off")
    settings = Settings(sysctls={}, security_modules="capability,yama,apparmor")
    assert "lsm=landlock,capability,yama,apparmor" in remedy(answer, 1000, settings)


def test_landlock_that_the_kernel_lacks() -> None:
    assert "CONFIG_SECURITY_LANDLOCK" in of("landlock", "ENOSYS")


def test_control_groups_of_a_user_are_delegated_by_systemd() -> None:
    told = of("cgroup.memory", "EACCES from mkdir")
    assert "systemd-run --user" in told
    assert "Delegate=yes" in told


@pytest.mark.parametrize("package", ["libseccomp2", "dnf install libseccomp"])
def test_a_missing_library_names_its_packages(package: str) -> None:
    assert package in of("libseccomp", "no such file")


def test_idmapped_mounts_matter_to_root_alone() -> None:
    assert of("idmapped-mounts") == ""
    assert "Linux 5.12" in of("idmapped-mounts", uid=0)


def test_every_subject_that_is_examined_has_a_remedy_or_needs_none() -> None:
    from nemoclaw_core.host import examine

    for answer in (*examine().answers, libseccomp()):
        failed = Answer(subject=answer.subject, works=False, detail="EPERM from clone")
        assert remedy(failed, 0, NOTHING_SET), answer.subject


def test_settings_are_read_from_this_machine() -> None:
    with open("/proc/sys/user/max_user_namespaces") as file:
        assert Settings.here().sysctls["user.max_user_namespaces"] == file.read().strip()
