"""Start, end, restart, and the book across all of it."""

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest

from scripts.simulator import Simulator, read_book
from scripts.simulator.client import Client
from scripts.simulator.process import ROOT, SimulatorError

MODULE = (sys.executable, "-m", "scripts.simulator")


def test_a_client_that_goes_is_billed_all_the_same(tmp_path: Path) -> None:
    book = tmp_path / "book.jsonl"
    with Simulator("--latency", "constant:0.3", book=book) as server:
        Client(server.port).connect().close()
        server.wait_idle()
        entry = server.book()[-1]

    assert (entry.delivery, entry.generated) == ("client_gone", True)
    assert entry.billed > 0


def test_a_client_that_goes_may_also_not_be_billed(tmp_path: Path) -> None:
    options = ("--latency", "constant:5", "--no-bill-aborted")
    with Simulator(*options, book=tmp_path / "book.jsonl") as server:
        with Client(server.port).connect():
            time.sleep(0.1)
        server.wait_idle(2)
        entry = server.book()[-1]

    assert (entry.delivery, entry.generated) == ("client_gone", False)
    assert entry.billed == 0


def test_the_book_goes_on_after_a_restart_on_the_same_port(tmp_path: Path) -> None:
    server = Simulator("--balance", "100", book=tmp_path / "book.jsonl")
    server.start()
    port, client = server.port, Client(server.port)
    first = client.chat("before")
    server.stop()
    server.start()
    again = client.chat("after")

    found = client.get(f"/generation?id={first.json['id']}").json["data"]
    stats = server.stats()
    server.stop()

    assert server.port == port
    assert found["total_cost"] == first.cost
    assert Decimal(stats["balance"]) == 100 - first.cost - again.cost
    assert [entry.call for entry in server.book()] == [1, 2, 3]
    assert server.book().total_billed() == first.cost + again.cost


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    book = tmp_path / "book.jsonl"
    with Simulator(book=book) as server:
        Client(server.port).chat()
    with book.open("ab") as file:
        file.write(b'{"event":"received","call":2,"at":"20')

    assert len(read_book(book)) == 1
    with Simulator(book=book) as server:
        Client(server.port).chat()
        assert [entry.call for entry in server.book()] == [1, 2]


def test_sigterm_in_mid_call_leaves_a_complete_book(tmp_path: Path) -> None:
    server = Simulator("--latency", "constant:30", book=tmp_path / "book.jsonl")
    server.start()
    with Client(server.port).connect():
        time.sleep(0.2)
        server.stop()

    entry = server.book()[-1]
    assert not entry.in_flight
    assert entry.delivery == "cut"
    assert entry.billed > 0


def test_a_killed_server_leaves_the_call_visible_as_in_flight(tmp_path: Path) -> None:
    server = Simulator("--latency", "constant:30", book=tmp_path / "book.jsonl")
    server.start()
    with Client(server.port).connect():
        time.sleep(0.2)
        server.kill()

    book = server.book()
    assert len(book.in_flight()) == 1
    assert book.max_in_flight() == 1


def test_it_says_where_it_listens_and_ends_on_a_signal(tmp_path: Path) -> None:
    command = [*MODULE, "--prefix", "/v2", "--book", str(tmp_path / "book.jsonl")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()

    assert line.startswith("listening on http://127.0.0.1:")
    assert line.endswith("/v2\n")
    assert (rest, process.returncode) == ("", 0)


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from scripts.simulator import Simulator\n"
        f"server = Simulator(book=__import__('pathlib').Path({str(tmp_path / 'book.jsonl')!r}))\n"
        "server.start()\n"
        "print(server.port, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    starter = [sys.executable, "-c", script]
    killed = subprocess.run(starter, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    port = int(killed.stdout)

    deadline = time.monotonic() + 30
    while _listens(port) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert killed.returncode == -signal.SIGKILL
    assert not _listens(port)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--host", "0.0.0.0"], "loopback"),
        (["--host", "example.com"], "loopback"),
        (["--fault", "nonsense"], "no such kind"),
        (["--latency", "soon"], "latency"),
        (["--balance", "NaN"], "amount"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    options: list[str], why: str, tmp_path: Path
) -> None:
    command = [*MODULE, "--book", str(tmp_path / "book.jsonl"), *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert why in ended.stderr
    assert ended.stdout == ""


def test_a_start_that_fails_says_why() -> None:
    with pytest.raises(SimulatorError, match="no such kind"):
        Simulator("--fault", "nonsense").start()


def test_rules_come_from_a_file_too(tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text('[{"kind": "status", "code": 529, "call": 1}]')

    with Simulator("--faults", str(rules), "--fault", "500", book=tmp_path / "b.jsonl") as server:
        client = Client(server.port)
        assert [client.chat().status, client.chat().status] == [529, 500]


def test_keys_can_be_given_at_the_start(tmp_path: Path) -> None:
    with Simulator("--key", "good", book=tmp_path / "b.jsonl") as server:
        assert Client(server.port, key="bad").chat().status == 401
        assert Client(server.port, key="good").chat().status == 200


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no certificate can be made here")
def test_it_can_serve_https_with_a_certificate_nobody_knows(tmp_path: Path) -> None:
    pair = [str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*make, "-out", pair[0], "-keyout", pair[1]], capture_output=True, check=True)

    with Simulator("--tls-cert", pair[0], "--tls-key", pair[1], book=tmp_path / "b") as server:
        assert server.base_url.startswith("https://")
        assert server.stats()["calls"] == 0
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"{server.base_url}/models", timeout=5)


def test_many_requests_share_one_connection(tmp_path: Path) -> None:
    body = b'{"model":"minimax/minimax-m1","messages":[{"role":"user","content":"x"}]}'
    head = b"POST /api/v1/chat/completions HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer k\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with Simulator(book=tmp_path / "b.jsonl") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            for _ in range(50):
                connection.sendall(request)
                found = b""
                while not found.endswith(b"\r\n0\r\n\r\n"):
                    found += connection.recv(65536)
        assert len(server.book().billed()) == 50


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True
