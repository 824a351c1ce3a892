"""Nothing is translated between versions of HTTP, so a request cannot change its meaning by that.

Attacks by downgrading need a proxy that speaks HTTP/2 with the client and HTTP/1.1 with the server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from ..egress.grounds import DIRECT, Gated, gated
from .ground import server_context
from .origin import Asked, Origin

__all__ = ["gated"]


@pytest.fixture
def old(gated: Gated) -> Iterator[tuple[int, int, list[Asked]]]:
    """Ports of servers that speak HTTP/1.1 alone, plain and with TLS; and what they were asked."""
    asked: list[Asked] = []
    context = server_context(gated.outside)
    with ExitStack() as stack:
        plain = stack.enter_context(closing(Origin(["127.0.0.1"], asked)))
        secure = stack.enter_context(closing(Origin(["127.0.0.1"], asked, tls=context)))
        yield plain.port, secure.port, asked


def test_a_client_and_a_server_speak_the_same_version_or_not_at_all(
    gated: Gated, old: tuple[int, int, list[Asked]]
) -> None:
    plain, secure, asked = old
    http = "[{ methods = ['*'], path = '/**' }]"
    rule = gated.rule("judged.test", ports=f"[{plain}, {secure}]", http=http)
    s_client = f"openssl s_client -connect judged.test:{secure} -servername judged.test"
    script = (
        # TLS: offered both, it is what the server has; offered HTTP/2 alone, it is nothing.
        f"{DIRECT} curl -sS --http2 -w ' %{{http_version}}' https://judged.test:{secure}/both; "
        f"echo; {s_client} -alpn h2 </dev/null 2>&1 | grep -c 'ALPN protocol: h2'; "
        # Plain: with prior knowledge, and by Upgrade, which goes no further.
        f"curl -sS --http2-prior-knowledge -m 9 http://judged.test:{plain}/knows 2>&1; echo; "
        f"curl -sS --http2 -w ' %{{http_version}}' http://judged.test:{plain}/upgrade"
    )
    done = gated.run(gated.policy(rule), script, "--name", "box")
    page, version, chosen, denial, empty, upgraded, still = done.stdout.splitlines()
    assert (page, version) == ("page of judged.test /both", " 1.1"), done.stderr
    assert chosen == "0"
    assert json.loads(denial)["error"] == "upstream_malformed"
    assert (empty, upgraded, still) == ("", "page of judged.test /upgrade", " 1.1")
    # Of what was said in HTTP/2 the server has got no request.
    assert [each.path for each in asked if each.host] == ["/both", "/upgrade"]
    assert not any(b"\nUpgrade:" in each.head for each in asked)
    assert "alpn" in json.dumps(gated.events("box"))
