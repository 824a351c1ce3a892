"""One path is shown to the proxy, and another one meant."""

from __future__ import annotations

from .registry import Stage, attack

UNDER = {
    "dots": ("/open/../secret/x", "dot segments"),
    "escaped_dots": ("/open/%2e%2e/secret/x", "escaped dot segments"),
    "escaped_slash": ("/open/..%2fsecret/x", "dot segments and an escaped slash"),
    "all_escaped": ("/open/%2e%2e%2Fsecret/x", "dots and slash escaped"),
    "twice_escaped": ("/open/%252e%252e/secret/x", "an escape that is escaped"),
    "backslash": ("/open/..\\secret/x", "a backslash"),
    "escaped_backslash": ("/open/..%5csecret/x", "an escaped backslash"),
    "parameters": ("/open/..;a=b/secret/x", "dot segments with parameters"),
    "overlong": ("/open/%c0%ae%c0%ae/secret/x", "dots in overlong UTF-8"),
    "overlong_slash": ("/open/..%c0%afsecret/x", "a slash in overlong UTF-8"),
    "deep": ("/open/a/b/%2e%2e/../..//secret/x", "dot segments of several kinds"),
}
"""Targets that begin like an allowed path and lead to another one."""
AROUND = {
    "double_slash": ("//secret/x", "a second slash"),
    "capitals": ("/SECRET/x", "capitals, on a server that ignores case"),
    "dot": ("/./secret/x", "a dot segment"),
    "escaped_letter": ("/%73ecret/x", "an escaped letter"),
    "parameters": ("/secret;a/x", "parameters"),
    "detour": ("/open/../secret/x", "a detour"),
    "backslash": ("/\\secret/x", "a backslash"),
    "overlong": ("/%c1%b3ecret/x", "a letter in overlong UTF-8"),
}
"""Targets that lead to a denied path and do not begin like it."""


def _make(name: str, host: str, target: str, claim: str) -> None:
    stopped = "deny-http|malformed-path" if host == "denied.test" else ""

    @attack("paths", name, claim, stopped=stopped)
    def run(stage: Stage) -> str:
        place = f"{host}:{stage.plain}"
        return stage.ask(stage.head(f"http://{place}{target}", place))


for _name, (_target, _what) in UNDER.items():
    _make(f"under-{_name}", "judged.test", _target, f"Out of an allowed path: {_what}.")
for _name, (_target, _what) in AROUND.items():
    _make(f"around-{_name}", "denied.test", _target, f"Into a denied path: {_what}.")


@attack("paths", stopped="method")
def method_override(stage: Stage) -> str:
    """A denied method in X-HTTP-Method-Override."""
    place = f"reads.test:{stage.plain}"
    return stage.ask(stage.head(f"http://{place}/open/x", place, "X-HTTP-Method-Override: DELETE"))


@attack("paths", stopped="method")
def method_override_underscores(stage: Stage) -> str:
    """The same with underscores, which to a server with CGI's names are dashes."""
    place = f"reads.test:{stage.plain}"
    return stage.ask(stage.head(f"http://{place}/open/x", place, "X_HTTP_Method_Override: DELETE"))


@attack("paths", stopped="malformed_request")
def method_in_small_letters(stage: Stage) -> str:
    """A denied method in small letters."""
    place = f"denied.test:{stage.plain}"
    return stage.ask(stage.head(f"http://{place}/open/x", place, method="delete"))


@attack("paths")
def rewritten(stage: Stage) -> str:
    """A denied path in X-Original-URL, which some frameworks believe."""
    place = f"judged.test:{stage.plain}"
    return stage.ask(stage.head(f"http://{place}/open/x", place, "X-Original-URL: /secret/x"))


@attack("paths", stopped="deny-http")
def method_override_twice(stage: Stage) -> str:
    """A denied method in a field that is there twice, where all others are allowed."""
    place = f"denied.test:{stage.plain}"
    field = "X-HTTP-Method-Override: DELETE"
    return stage.ask(stage.head(f"http://{place}/open/x", place, field, field))
