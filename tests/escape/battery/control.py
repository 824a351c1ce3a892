"""Control: the agent's hands on nemoclaw itself: its policy, state, sockets, program, process."""

from __future__ import annotations

import os
import signal
import socket

from .inet import PATIENCE, greeting
from .neighbours import PTRACE_SEIZE
from .registry import Stopped, attempt
from .stage import Stage, append
from .system import syscall

_CONFIG = "{home}/.config/nemoclaw"
_CACHE = "{home}/.cache/nemoclaw"
_STATE = "{home}/.local/state/nemoclaw"
_TRACED = "kernel/yama/ptrace_scope<=0"


@attempt("control")
def read_policy(stage: Stage) -> str:
    """Read the policy file that is in force."""
    return stage.read(f"{stage.base}/policy/policies.toml")


@attempt("control", effect="changed {base}/policy/policies.toml")
def write_policy(stage: Stage) -> str:
    """Widen the policy file that is in force."""
    return append(f"{stage.base}/policy/policies.toml", "# widened\n")


@attempt("control", effect="changed {base}/policy/{name}")
def write_beside_policy(stage: Stage) -> str:
    """Create a file in the policy's directory."""
    return append(f"{stage.base}/policy/{stage.name}")


@attempt("control", effect="changed {base}/policy", alone=True)
def replace_policy_directory(stage: Stage) -> str:
    """Move the policy's directory away and make another."""
    os.rename(f"{stage.base}/policy", f"{stage.base}/policy-moved")
    os.mkdir(f"{stage.base}/policy")
    return append(f"{stage.base}/policy/policies.toml", "version = 1\n")


@attempt("control", effect="changed {work}/policies.toml", stage="policy-in-work")
def write_policy_in_work(stage: Stage) -> str:
    """Widen the policy file in force when it lies in the work directory."""
    return append(f"{stage.work}/policies.toml", "# widened\n")


@attempt("control", effect="changed {work}/policies.toml", stage="policy-in-work")
def replace_policy_in_work(stage: Stage) -> str:
    """Put another file in place of the policy in force when it lies in the work directory."""
    append(f"{stage.work}/other.toml", "version = 1\n")
    os.rename(f"{stage.work}/other.toml", f"{stage.work}/policies.toml")
    return "replaced it"


@attempt("control", stage="policy-in-work")
def read_policy_in_work(stage: Stage) -> str:
    """Read the policy file in force when it lies in the work directory."""
    return stage.read(f"{stage.work}/policies.toml")


@attempt("control", effect="changed " + _CONFIG + "/policies.toml")
def write_own_configuration(stage: Stage) -> str:
    """Widen the user's own policies."""
    return append(f"{stage.home}/.config/nemoclaw/policies.toml", "# widened\n")


@attempt("control", effect="changed " + _CONFIG, alone=True)
def replace_configuration(stage: Stage) -> str:
    """Move nemoclaw's configuration away and make another."""
    os.rename(f"{stage.home}/.config", f"{stage.home}/.config-moved")
    os.makedirs(f"{stage.home}/.config/nemoclaw")
    return append(f"{stage.home}/.config/nemoclaw/policies.toml", "version = 1\n")


@attempt("control")
def read_event_log(stage: Stage) -> str:
    """Read the event log of another sandbox."""
    return stage.read(f"{stage.home}/.local/state/nemoclaw/earlier/events.jsonl")


@attempt("control", effect="changed " + _STATE + "/earlier/events.jsonl")
def forge_event(stage: Stage) -> str:
    """Append a record to the event log of another sandbox."""
    return append(f"{stage.home}/.local/state/nemoclaw/earlier/events.jsonl", "{}\n")


@attempt("control", effect="changed " + _STATE + "/doomed/events.jsonl")
def remove_event_log(stage: Stage) -> str:
    """Remove the event log of another sandbox."""
    os.unlink(f"{stage.home}/.local/state/nemoclaw/doomed/events.jsonl")
    return "removed it"


@attempt("control", stage="state-in-work")
def find_log_in_work(stage: Stage) -> str:
    """Find an event log when the state directory lies in the work directory."""
    for top, _, names in os.walk(f"{stage.work}/state"):
        for name in names:
            if name.startswith("events") and os.stat(f"{top}/{name}").st_size:
                return f"found {top}/{name}"
    raise Stopped("there is no log in sight")


@attempt("control", effect="changed {work}/state/nemoclaw/planted", stage="state-in-work")
def write_state_in_work(stage: Stage) -> str:
    """Plant a file in the state directory when it lies in the work directory."""
    return append(f"{stage.work}/state/nemoclaw/planted")


@attempt("control", effect="changed {work}/state/nemoclaw/earlier", stage="state-in-work")
def move_state_in_work(stage: Stage) -> str:
    """Rename the directory around nemoclaw's state when it lies in the work directory."""
    os.rename(f"{stage.work}/state", f"{stage.work}/state-moved")
    return "renamed it"


@attempt("control")
def list_state(stage: Stage) -> str:
    """List which sandboxes there are."""
    names = os.listdir(f"{stage.home}/.local/state/nemoclaw")
    if "earlier" not in names:
        raise Stopped(f"it shows {names}")
    return f"{len(names)} names"


@attempt("control")
def read_cached_plan(stage: Stage) -> str:
    """Read a compiled plan."""
    return stage.read(f"{stage.home}/.cache/nemoclaw/earlier.plan")


@attempt("control", effect="changed " + _CACHE + "/{name}")
def plant_cached_plan(stage: Stage) -> str:
    """Plant a compiled plan for the next start."""
    return append(f"{stage.home}/.cache/nemoclaw/{stage.name}")


@attempt("control", effect="changed " + _CACHE + "/earlier.plan")
def change_cached_plan(stage: Stage) -> str:
    """Change a compiled plan."""
    return append(f"{stage.home}/.cache/nemoclaw/earlier.plan")


@attempt("control")
def connect_control_socket(stage: Stage) -> str:
    """Connect to the control socket of another sandbox."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(f"{stage.run}/nemoclaw/earlier.sock")
    return greeting(stage, connection)


@attempt("control", effect="changed {run}/nemoclaw/{name}")
def write_runtime_directory(stage: Stage) -> str:
    """Plant a file in the directory of the control sockets."""
    return append(f"{stage.run}/nemoclaw/{stage.name}")


@attempt("control")
def list_runtime_directory(stage: Stage) -> str:
    """List the directory of the control sockets."""
    names = os.listdir(f"{stage.run}/nemoclaw")
    if "earlier.sock" not in names:
        raise Stopped(f"it shows {names}")
    return f"{len(names)} names"


@attempt("control", effect="changed {home}/.local/bin/nemoclaw")
def change_program(stage: Stage) -> str:
    """Change the nemoclaw program in the user's path."""
    return append(f"{stage.home}/.local/bin/nemoclaw", "# changed\n")


@attempt("control", effect="changed {home}/.local/lib/{name}")
def plant_startup_module(stage: Stage) -> str:
    """Plant a module that Python imports when nemoclaw starts."""
    os.makedirs(f"{stage.home}/.local/lib/{stage.name}", exist_ok=True)
    return append(f"{stage.home}/.local/lib/{stage.name}/usercustomize.py", "")


@attempt("control", needs="root")
def change_source(stage: Stage) -> str:
    """Open a source file of nemoclaw for writing."""
    descriptor = os.open(stage.path("source"), os.O_WRONLY)
    os.close(descriptor)
    return "opened it"


@attempt("control")
def signal_supervisor(stage: Stage) -> str:
    """Be allowed to signal the process that supervises the sandbox."""
    return _signal(stage, 0)


@attempt("control", alone=True)
def end_supervisor(stage: Stage) -> str:
    """End the process that supervises the sandbox and go on without it."""
    return _signal(stage, signal.SIGTERM)


def _signal(stage: Stage, number: int) -> str:
    if stage.ours(stage.supervisor):
        raise Stopped("the number is one of our own")
    os.kill(stage.supervisor, number)
    return f"signalled {stage.supervisor}"


@attempt("control", host=_TRACED)
def trace_supervisor(stage: Stage) -> str:
    """Trace the process that supervises the sandbox."""
    if stage.ours(stage.supervisor):
        raise Stopped("the number is one of our own")
    syscall("ptrace", PTRACE_SEIZE, stage.supervisor, 0, 0)
    return "seized it"


@attempt("control")
def read_supervisor_environment(stage: Stage) -> str:
    """Read the environment of the process that supervises the sandbox."""
    return stage.read(f"/proc/{stage.supervisor}/environ")


@attempt("control")
def list_supervisor_descriptors(stage: Stage) -> str:
    """List the descriptors of the process that supervises the sandbox."""
    if stage.ours(stage.supervisor):
        raise Stopped("the number is one of our own")
    return f"{len(os.listdir(f'/proc/{stage.supervisor}/fd'))} descriptors"


@attempt("control", host=_TRACED)
def take_supervisor_descriptor(stage: Stage) -> str:
    """Take a descriptor out of the process that supervises the sandbox."""
    if stage.ours(stage.supervisor):
        raise Stopped("the number is one of our own")
    process = syscall("pidfd_open", stage.supervisor, 0)
    return f"descriptor {syscall('pidfd_getfd', process, 0, 0)}"


@attempt("control")
def find_foreign_descriptors(stage: Stage) -> str:
    """Find any descriptor besides the three standard ones, such as a socket to the launcher."""
    if not stage.facts["inherited"]:
        raise Stopped("there is none")
    return f"descriptors {stage.facts['inherited']}"


@attempt("control")
def write_to_parent_descriptors(stage: Stage) -> str:
    """Open the descriptors of the process that started the attempt for writing."""
    names = os.listdir(f"/proc/{stage.parent}/fd")
    for name in names:
        try:
            path = f"/proc/{stage.parent}/fd/{name}"
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY))
        except OSError:
            continue
        return f"opened descriptor {name}"
    raise Stopped(f"none of {len(names)} could be opened")
