"""Every kind of fault plays what it says; E numbers are those of the catalogue of faults."""

import gzip
import http.client
import json
import socket
import time
import zlib
from collections.abc import Callable
from decimal import Decimal
from email.utils import parsedate_to_datetime

import pytest

from scripts.simulator import Simulator
from scripts.simulator.client import Answer, Client

Play = Callable[..., None]


@pytest.mark.parametrize(
    ("wish", "sent"), [("7", "7"), ("nan", "nan"), ("-5", "-5"), ("1e9", "1e9"), ("soon", "soon")]
)
def test_e1_e4_429_with_any_retry_after(client: Client, play: Play, wish: str, sent: str) -> None:
    play(f"429:retry_after={wish}")

    answer = client.chat()

    assert (answer.status, answer.headers["retry-after"]) == (429, sent)
    assert answer.json["error"]["code"] == 429


def test_e2_429_with_an_http_date_by_the_servers_own_clock(client: Client, play: Play) -> None:
    play("429:retry_after=date:7,skew=3600")

    headers = client.chat().headers

    at, now = (parsedate_to_datetime(headers[name]) for name in ("retry-after", "date"))
    assert (at - now).total_seconds() == 7
    assert now.timestamp() - time.time() > 3500


def test_e3_429_without_a_header_and_of_each_meaning(client: Client, play: Play) -> None:
    answers = []
    for meaning in ("rate", "upstream", "spend_limit"):
        play(f"429:meaning={meaning}")
        answers.append(client.chat())

    assert all("retry-after" not in answer.headers for answer in answers)
    assert answers[1].json["error"]["metadata"]["provider_name"]
    assert "spend limit" in _message(answers[2])


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 409, 524, 529, 413, 422])
def test_e6_e8_e9_e34_a_plain_status(
    server: Simulator, client: Client, play: Play, status: int
) -> None:
    play(str(status))

    answer = client.chat()

    assert answer.status == status
    entry = server.book()[-1]
    assert (entry.fault, entry.status) == (str(status), status)
    assert entry.billed == 0


def test_e6_an_error_may_be_billed_and_then_be_looked_up(
    server: Simulator, client: Client, play: Play
) -> None:
    play("500:bill=true")

    answer = client.chat()

    entry = server.book()[-1]
    found = client.get(f"/generation?id={answer.headers['x-generation-id']}")
    assert entry.billed > 0
    assert found.json["data"]["total_cost"] == entry.billed


def test_an_error_may_take_its_time(client: Client, play: Play) -> None:
    play("504:after=0.2")

    asked = time.monotonic()
    assert client.chat().status == 504
    assert time.monotonic() - asked >= 0.2


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("form", ["object", "string", "json", "nested", "text"])
def test_e7_e20_an_error_inside_another_status(
    client: Client, play: Play, status: int, form: str
) -> None:
    play(f"wrapped:code=429,status={status},form={form},retry_after=7")

    answer = client.chat()

    assert answer.status == status
    assert "choices" not in answer.json
    error = answer.json["error"]
    assert isinstance(error, str) == (form != "object")
    if form != "text":
        assert _innermost_code(error) == 429
    if form in ("object", "json", "nested"):
        assert "Retry-After" in answer.body.decode()


def test_e20_an_error_in_200_may_name_its_cost(
    server: Simulator, client: Client, play: Play
) -> None:
    play("error200:cost=true")

    answer = client.chat()

    assert answer.cost == server.book()[-1].billed > 0
    assert answer.json["error"]["code"] == 502


def test_e20_an_error_in_200_comes_after_white_space_as_an_answer_does(
    server: Simulator, client: Client, play: Play
) -> None:
    server.control("latency", {"latency": "constant:0.2"})
    play("error200")

    answer = client.chat()

    assert answer.body.startswith(b" ")
    assert "error" in answer.json


def test_e10_nothing_comes_at_all(server: Simulator, client: Client, play: Play) -> None:
    play("never")

    with client.connect() as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    server.wait_idle()

    entry = server.book()[-1]
    assert (entry.status, entry.delivery) == (None, "none")
    assert entry.billed == 0


def test_e11_headers_and_then_silence(server: Simulator, client: Client, play: Play) -> None:
    play("silence:seconds=0.2")

    found = client.raw_chat()

    head, _, body = found.partition(b"\r\n\r\n")
    assert b"X-Generation-Id" in head
    assert body == b""
    server.wait_idle()
    entry = server.book()[-1]
    assert (entry.delivery, entry.billed > 0) == ("cut", True)
    assert client.get(f"/generation?id={entry.generation_id}").status == 200


def test_e12_white_space_for_ever(server: Simulator, client: Client, play: Play) -> None:
    play("whitespace:every=0.05")

    with client.connect() as connection:
        time.sleep(0.4)
        found = connection.recv(65536)
    server.wait_idle()

    assert found.count(b"\r\n \r\n") >= 4
    assert b"{" not in found


def test_e13_a_slow_body_that_ends(client: Client, play: Play) -> None:
    play("slow:seconds=0.3")

    asked = time.monotonic()
    answer = client.chat()

    assert answer.text
    assert time.monotonic() - asked > 0.25


@pytest.mark.parametrize("bill", ["false", "true"])
def test_e15_a_reset_before_any_byte(
    server: Simulator, client: Client, play: Play, bill: str
) -> None:
    play(f"reset:bill={bill}")

    with pytest.raises(ConnectionResetError):
        client.raw_chat()

    server.wait_idle()
    entry = server.book()[-1]
    assert (entry.delivery, entry.billed > 0) == ("none", bill == "true")


def test_e16_a_reset_in_mid_body(server: Simulator, client: Client, play: Play) -> None:
    play("reset_body")

    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        client.chat()

    server.wait_idle()
    entry = server.book()[-1]
    assert (entry.delivery, entry.billed > 0) == ("cut", True)


def test_e16_a_chunked_body_that_is_cut(server: Simulator, client: Client, play: Play) -> None:
    play("cut:part=0.5")

    with pytest.raises(http.client.IncompleteRead):
        client.chat()

    server.wait_idle()
    entry = server.book()[-1]
    assert (entry.delivery, entry.billed > 0) == ("cut", True)
    assert entry.sent_bytes > 100


def test_e17_a_content_length_that_is_too_long(client: Client, play: Play) -> None:
    play("length:off=10")

    with pytest.raises(http.client.IncompleteRead):
        client.chat()


def test_e17_a_content_length_that_is_too_short(client: Client, play: Play) -> None:
    play("length:off=-10")

    with pytest.raises(json.JSONDecodeError):
        assert client.chat().json


def test_e18_a_whole_answer_of_half_a_document(
    server: Simulator, client: Client, play: Play
) -> None:
    play("truncated")

    answer = client.chat()

    with pytest.raises(json.JSONDecodeError):
        assert answer.json
    entry = server.book()[-1]
    assert (entry.delivery, entry.sent_bytes) == ("full", len(answer.body))


@pytest.mark.parametrize(
    ("kind", "status", "begins"),
    [
        ("html", 200, b"<!DOCTYPE"),
        ("empty", 200, b""),
        ("null", 200, b"null"),
        ("list", 200, b"["),
        ("string", 200, b'"'),
        ("no_content", 204, b""),
        ("sse", 200, b"data:"),
        ("html:status=502", 502, b"<!DOCTYPE"),
    ],
)
def test_e19_a_body_that_is_no_answer(
    client: Client, play: Play, kind: str, status: int, begins: bytes
) -> None:
    play(kind)

    answer = client.chat()

    assert answer.status == status
    assert answer.body.startswith(begins)
    assert bool(answer.body) == bool(begins)


def test_e21_no_choices_and_no_content(client: Client, play: Play) -> None:
    play("no_choices")
    without_choices = client.chat()
    play("no_content_text")
    without_content = client.chat()

    assert without_choices.json["choices"] == []
    assert without_content.text == ""


@pytest.mark.parametrize("reason", ["length", "content_filter", "odd", "error", "null", "missing"])
def test_e22_e23_e24_another_finish_reason(client: Client, play: Play, reason: str) -> None:
    play(f"finish:reason={reason}")

    choice = client.chat().json["choices"][0]

    expected = {"null": None, "missing": "absent"}.get(reason, reason)
    assert choice.get("finish_reason", "absent") == expected
    assert ("error" in choice) == (reason == "error")
    assert choice["message"]["content"]


def test_e25_usage_is_missing_null_or_without_cost_and_can_be_looked_up(
    server: Simulator, client: Client, play: Play
) -> None:
    answers = []
    for form in ("missing", "null", "no_cost", "null_cost"):
        play(f"usage:form={form}")
        answers.append(client.chat(form))

    usages = [answer.json.get("usage", "absent") for answer in answers]
    assert usages[:2] == ["absent", None]
    assert "cost" not in usages[2]
    assert usages[3]["cost"] is None
    for answer in answers:
        found = client.get(f"/generation?id={answer.json['id']}").json["data"]
        assert found["total_cost"] == _billed(server, answer) > 0


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1", '"a lot"', "true"])
def test_e26_a_cost_that_is_no_amount(
    server: Simulator, client: Client, play: Play, value: str
) -> None:
    play({"kind": "cost", "value": value})

    answer = client.chat()

    assert f'"cost":{value},'.encode() in answer.body
    assert _billed(server, answer) < 1


def test_e26_token_counts_that_are_no_counts(client: Client, play: Play) -> None:
    usages = {}
    for form in ("zero_prompt", "negative", "fraction", "text"):
        play(f"usage:form={form}")
        usages[form] = client.chat().json["usage"]

    assert (usages["zero_prompt"]["prompt_tokens"], usages["zero_prompt"]["total_tokens"]) == (
        0,
        18,
    )
    assert usages["negative"]["prompt_tokens"] < 0
    assert usages["fraction"]["prompt_tokens"] == Decimal("1.5")
    assert usages["text"]["completion_tokens"] == "many"


def test_e27_a_call_costs_more_than_its_price(
    server: Simulator, client: Client, play: Play
) -> None:
    usual = client.chat("x")
    play("price:factor=3")
    dear = client.chat("x")

    assert dear.cost == 3 * usual.cost == _billed(server, dear)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_e29_a_redirect(client: Client, play: Play, code: int) -> None:
    play(f"redirect:code={code},location=http://127.0.0.1:9/api/v1/chat/completions")

    answer = client.chat()

    assert answer.status == code
    assert answer.headers["location"].startswith("http://127.0.0.1:9/")


def test_e30_e31_e32_e33_refusals_of_each_meaning(client: Client, play: Play) -> None:
    told = {}
    for rule in (
        "401",
        "402",
        "402:meaning=in_flight,retry_after=2",
        "403:meaning=moderation",
        "403:meaning=role",
        "403:meaning=key_limit",
        "404:meaning=model",
        "404:meaning=endpoint",
        "400:meaning=context",
    ):
        play(rule)
        told[rule] = client.chat()

    assert [answer.status for answer in told.values()] == [int(rule[:3]) for rule in told]
    in_flight = told["402:meaning=in_flight,retry_after=2"]
    assert in_flight.json["error"]["metadata"]["reason"] == "in_flight_budget_exhausted"
    assert in_flight.headers["retry-after"] == "2"
    assert "flagged" in _message(told["403:meaning=moderation"])
    assert len({_message(answer) for answer in told.values()}) == len(told)


def test_e35_a_400_that_asks_to_be_repeated(client: Client, play: Play) -> None:
    play("400:should_retry=true")

    assert client.chat().headers["x-should-retry"] == "true"


def test_e36_two_responses_to_one_request(client: Client, play: Play) -> None:
    play("desync")

    with client.connect() as connection:
        found = b""
        while b"not for you" not in found:
            found += connection.recv(65536)

    assert found.count(b"HTTP/1.1 200 OK") == 2


def test_e37_two_attempts_with_one_id_are_billed_once(
    server: Simulator, client: Client, play: Play
) -> None:
    play("same_id")

    first, again, other = client.chat("one"), client.chat("one"), client.chat("two")

    assert first.json["id"] == again.json["id"] != other.json["id"]
    calls = server.book()[-3:]
    assert [call.billed > 0 for call in calls] == [True, False, True]
    found = client.get(f"/generation?id={first.json['id']}").json["data"]
    assert found["total_cost"] == calls[0].billed


def test_e38_another_model_in_the_answer(server: Simulator, client: Client, play: Play) -> None:
    play("other_model:name=example/else")

    assert client.chat().json["model"] == "example/else"
    assert server.book()[-1].model == "minimax/minimax-m1"


def test_e39_a_huge_answer(client: Client, play: Play) -> None:
    play("huge:bytes=3000000")

    answer = client.chat()

    assert len(answer.body) > 3_000_000
    assert answer.text


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_e39_a_bomb(client: Client, play: Play, encoding: str) -> None:
    play(f"bomb:bytes=5000000,encoding={encoding}")

    answer = client.chat()

    assert answer.headers["content-encoding"] == encoding
    assert len(answer.body) < 10_000
    if encoding == "zstd":
        assert answer.body.startswith(bytes.fromhex("28b52ffd"))
        return
    unpacked = gzip.decompress(answer.body) if encoding == "gzip" else zlib.decompress(answer.body)
    assert len(unpacked) > 5_000_000
    assert json.loads(unpacked)["choices"]


def test_e40_json_nested_deep(client: Client, play: Play) -> None:
    play("deep:depth=50000")

    assert client.chat().body.count(b"[") == 50_000


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("surrogate", "\ud83d"),
        ("nul", "\x00"),
        ("separators", "\u2028"),
        ("separators", "\u0085"),
        ("ansi", "\x1b[31m"),
        ("html", "<script>"),
        ("formula", "=HYPERLINK"),
    ],
)
def test_e41_hostile_content(client: Client, play: Play, text: str, needle: str) -> None:
    play(f"content:text={text}")

    answer = client.chat()

    assert needle in answer.text
    assert answer.body.decode()


def test_e42_200_kilobytes_of_headers(client: Client, play: Play) -> None:
    play("big_headers")

    found = client.raw_chat()

    assert found.index(b"\r\n\r\n") > 200_000


def test_e42_http_0_9(client: Client, play: Play) -> None:
    play("http09")

    assert client.raw_chat().startswith(b'{"id"')


def test_e42_early_hints_before_the_answer(client: Client, play: Play) -> None:
    play("early_hints")

    found = client.raw_chat()

    assert found.startswith(b"HTTP/1.1 103 Early Hints\r\n")
    assert found.count(b"HTTP/1.1 200 OK") == 1


def test_e45_a_mix_of_everything_leaves_the_book_exact(
    server: Simulator, client: Client, play: Play
) -> None:
    before = server.stats()
    play("mix:share=0.9")
    for number in range(120):
        try:
            with client.connect(f"mixed {number}") as connection:
                connection.settimeout(0.15)
                while connection.recv(2**20):
                    pass
        except OSError:
            pass
    server.wait_idle()

    billed = Decimal(server.stats()["billed"]) - Decimal(before["billed"])
    calls = server.book()[-120:]
    assert calls.total_billed() == billed > 0
    assert len({call.fault for call in calls}) > 20


def test_faults_may_strike_the_other_paths(client: Client, play: Play) -> None:
    play("500:on=generation", "cut:on=credits", "html:on=models", "429:on=key,retry_after=1")

    assert client.get("/generation?id=x").status == 500
    with pytest.raises(http.client.IncompleteRead):
        client.get("/credits")
    assert client.get("/models").body.startswith(b"<!DOCTYPE")
    assert client.get("/key").status == 429
    assert client.chat().status == 200


def test_e14_nobody_listens_once_it_is_stopped() -> None:
    with Simulator() as server:
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def _message(answer: Answer) -> str:
    return str(answer.json["error"]["message"])


def _billed(server: Simulator, answer: Answer) -> Decimal:
    entry = next(each for each in server.book() if each.generation_id == answer.json["id"])
    return entry.billed


def _innermost_code(error: object) -> int:
    if isinstance(error, str):
        if error.startswith("HTTP "):
            return int(error[5:8])
        return _innermost_code(json.loads(error)["error"])
    assert isinstance(error, dict)
    if str(error["message"]).startswith("{"):
        return _innermost_code(error["message"])
    return int(error["code"])
