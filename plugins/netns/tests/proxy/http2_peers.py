"""Both ends of HTTP/2 for the tests: a client that may misbehave, and a server that records."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import h2.config
import h2.connection
import h2.events as events
from h2.settings import Settings
from nemoclaw_plugin_netns.proxy.head import Fields

if TYPE_CHECKING:
    from nemoclaw_plugin_netns.proxy.authority import Authority

    from plugins.netns.tests.proxy.conftest import Running


@attrs.define
class Answer:
    """What came back on a stream, or what is to go back."""

    status: int = 0
    fields: dict[bytes, bytes] = attrs.field(factory=dict)
    body: bytes = b""
    trailers: dict[bytes, bytes] = attrs.field(factory=dict)
    interim: list[int] = attrs.field(factory=list)
    ended: bool = False
    reset: int | None = None


class Client:
    """On a socket that has been connected, and has said TLS if it should."""

    def __init__(
        self, sock: socket.socket, *, host: bytes = b"a.example", tls: bool = True
    ) -> None:
        self.sock = sock
        self.host = host
        self.scheme = b"https" if tls else b"http"
        self.answers: dict[int, Answer] = {}
        self.goodbye: int | None = None
        self.acknowledge = True
        self.h2 = _connection(client=True)
        self.h2.initiate_connection()
        self.send()

    def send(self, data: bytes = b"") -> None:
        """What h2 has to say, and then octets of the test's own."""
        self.sock.sendall(self.h2.data_to_send() + data)

    def request(
        self, path: bytes = b"/x", method: bytes = b"GET", *fields: tuple[bytes, bytes],
        body: bytes | None = None, end: bool = True,
    ) -> int:  # fmt: skip
        """Send one; returns its stream."""
        head = [
            (b":method", method),
            (b":scheme", self.scheme),
            (b":authority", self.host),
            (b":path", path),
            *fields,
        ]
        return self.headers(head, body=body, end=end)

    def headers(self, head: Fields, *, body: bytes | None = None, end: bool = True) -> int:
        """The same with a header block that may be anything."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, head, end_stream=end and body is None)
        self.answers[stream] = Answer()
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        self.send()
        return stream

    def get(self, path: bytes = b"/x", *fields: tuple[bytes, bytes]) -> Answer:
        """A whole exchange."""
        return self.until(self.request(path, b"GET", *fields))

    def until(self, stream: int) -> Answer:
        """Wait for a stream's end."""
        answer = self.answers[stream]
        while not answer.ended and answer.reset is None:
            if not self.receive():
                raise ConnectionResetError("the connection ended first")
        return answer

    def idle(self, seconds: float) -> bool:
        """Whether nothing arrives for some time."""
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return False
        return not select.select([self.sock], [], [], seconds)[0]

    def receive(self) -> bool:
        """Handle what arrives next. False: the peer has gone."""
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLError):
            return False
        if not data:
            return False
        for event in self.h2.receive_data(data):
            self._handle(event)
        self.send()
        return True

    def receive_all(self) -> None:
        """Until the peer goes."""
        while self.receive():
            pass
        self.sock.close()

    def _handle(self, event: Any) -> None:
        if isinstance(event, events.ConnectionTerminated):
            self.goodbye = int(event.error_code or 0)
            return
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if answer is None:
            return
        if isinstance(event, events.InformationalResponseReceived):
            answer.interim.append(int(dict(event.headers)[b":status"]))
        elif isinstance(event, events.ResponseReceived):
            answer.fields = dict(event.headers)
            answer.status = int(answer.fields.pop(b":status"))
        elif isinstance(event, events.DataReceived):
            answer.body += event.data
            if self.acknowledge:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.TrailersReceived):
            answer.trailers = dict(event.headers)
        elif isinstance(event, events.StreamEnded):
            answer.ended = True
        elif isinstance(event, events.StreamReset):
            answer.reset = int(event.error_code)


@attrs.define
class Asked:
    """A request as the server got it."""

    stream: int
    head: Fields
    body: bytes = b""
    ended: bool = False
    reset: int | None = None
    trailers: Fields = attrs.field(factory=list)
    connection: int = 0

    @property
    def fields(self) -> dict[bytes, bytes]:
        return dict(self.head)


Act = Callable[["Server", h2.connection.H2Connection, Asked, Any], None]


class Server:
    """Serves a connection a call; ``act`` is told of each event of a stream, and sends."""

    def __init__(self, act: Act | None = None) -> None:
        self.asked: list[Asked] = []
        self.act = act or answer_at_the_end
        self.connections = 0
        self.goodbyes = 0
        self.settings: dict[Any, int] = {}
        self.acknowledge = True
        self._lock = threading.Lock()

    def __call__(self, sock: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            number = self.connections
        conn = _connection(client=False)
        if self.settings:
            conn.local_settings = Settings(client=False, initial_values=self.settings)
        conn.initiate_connection()
        sock.sendall(conn.data_to_send())
        mine: dict[int, Asked] = {}
        while data := sock.recv(65536):
            for event in conn.receive_data(data):
                stream = getattr(event, "stream_id", None) or 0
                if isinstance(event, events.RequestReceived):
                    mine[stream] = Asked(stream, list(event.headers), connection=number)
                    self.asked.append(mine[stream])
                elif isinstance(event, events.ConnectionTerminated):
                    self.goodbyes += 1
                asked = mine.get(stream)
                if asked is None:
                    continue
                if isinstance(event, events.DataReceived):
                    asked.body += event.data
                    if self.acknowledge:
                        conn.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, events.TrailersReceived):
                    asked.trailers = list(event.headers)
                elif isinstance(event, events.StreamEnded):
                    asked.ended = True
                elif isinstance(event, events.StreamReset):
                    asked.reset = int(event.error_code)
                self.act(self, conn, asked, event)
            try:
                sock.sendall(conn.data_to_send())
            except OSError:
                return


def answer_at_the_end(
    server: Server, conn: h2.connection.H2Connection, asked: Asked, event: Any
) -> None:
    """200 and the path, once the request is whole."""
    if isinstance(event, events.StreamEnded):
        body = b"page " + asked.fields[b":path"]
        conn.send_headers(asked.stream, [(b":status", b"200"), (b"server", b"test")])
        conn.send_data(asked.stream, body, end_stream=True)


class World:
    """https://a.example/, whose server speaks HTTP/2, and the gate before it."""

    def __init__(self, gate: Running, authority: Authority) -> None:
        self.gate = gate
        self.egress = gate.egress
        self.server = Server()
        context = authority.context("a.example", "h2")
        self.upstream = gate.upstream(self.server, context)
        gate.egress.allow("a.example", 443, self.upstream.port, inspect=True)

    @property
    def shared(self) -> Any:
        """What the service's connections share."""
        return self.gate.service._gate

    def forbid(self, path: str) -> None:
        self.egress.rules["a.example", 443].request = lambda r: r.http.path != path

    def dial(self, *protocols: str) -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=self.gate.service.ca_certificate.decode())
        context.set_alpn_protocols(protocols or ("h2", "http/1.1"))
        sock = self.gate.dial("a.example", 443)
        return context.wrap_socket(sock, server_hostname="a.example")

    def client(self) -> Client:
        return Client(self.dial())


def _connection(*, client: bool) -> h2.connection.H2Connection:
    return h2.connection.H2Connection(
        h2.config.H2Configuration(
            client_side=client,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
        )
    )
