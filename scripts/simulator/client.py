"""A plain client of the simulator, for tests: a connection for each request, nothing retried."""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

MODEL = "minimax/minimax-m1"
CHAT_PATH = "/api/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers with lower-case names, body bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body; its broken numbers are `Decimal` and keep every digit."""
        return json.loads(self.body, parse_float=Decimal)

    @property
    def cost(self) -> Decimal:
        """``usage.cost``, in roubles."""
        return Decimal(self.json["usage"]["cost"])

    @property
    def text(self) -> str:
        """What the model says."""
        return str(self.json["choices"][0]["message"]["content"])


@dataclass(frozen=True, slots=True)
class Client:
    """Asks the simulator on `port` of this machine with `key`."""

    port: int
    key: str = "sk-test"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request, its whole answer; raises what `http.client` raises."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            sent = {"Authorization": f"Bearer {self.key}", **headers}
            connection.request(method, path, body, {k: v for k, v in sent.items() if v})
            reply = connection.getresponse()
            names = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, names, reply.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        """GET a path below the prefix."""
        return self.ask("GET", f"/api/v1{path}")

    def chat(self, text: str = "hello", **fields: Any) -> Answer:
        """POST a chat request whose user says `text`; `fields` go into its body."""
        return self.ask("POST", CHAT_PATH, chat_body(text, **fields))

    def connect(self, text: str = "hello", **fields: Any) -> socket.socket:
        """A connection on which a chat request was sent and nothing was read."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        body = chat_body(text, **fields)
        head = (
            f"POST {CHAT_PATH} HTTP/1.1\r\nHost: simulator\r\nConnection: close\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        return connection

    def raw_chat(self, text: str = "hello", **fields: Any) -> bytes:
        """Every byte that comes back until the server closes; raises what the socket raises."""
        with self.connect(text, **fields) as connection:
            found = b""
            while piece := connection.recv(65536):
                found += piece
            return found


def chat_body(text: str = "hello", **fields: Any) -> bytes:
    """The body of a chat request whose user says `text`."""
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": MODEL, "messages": messages, **fields}).encode()
