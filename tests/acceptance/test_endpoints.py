"""Any OpenAI-compatible endpoint: how it is called, what its money is, what it leaves out."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from decimal import Decimal

import pytest
from openai.types.responses import Response

from scripts.simulator import Simulator
from tests.acceptance.conftest import MODEL, Shell, batch_lines, cost_of
from tests.acceptance.foreign import Answer, Asked, completion, foreign
from tests.test_secrecy import layers

PAGE = "<html>not found</html>"


def azure(asked: Asked) -> Answer:
    """Wants a header for the key and a query for the version, and lists no models."""
    if not asked.path.startswith("/openai/deployments/m/chat/completions?api-version=2024-10-21"):
        return 404, {"error": {"code": "404", "message": "Resource not found"}}
    if asked.headers.get("api-key") != "canary-header" or "authorization" in asked.headers:
        return 401, {"error": {"code": "401", "message": "Access denied"}}
    return 200, completion()


def quoting(asked: Asked) -> Answer:
    """As `azure`, but says again what it was sent: in an error, in an answer, and in base64."""
    secrets = " ".join(asked.headers.get(name, "") for name in ("api-key", "x-org"))
    text = asked.body.decode()
    if "Отзыв 1" in text:
        return 400, {"error": {"message": f"no such thing: {secrets}", "seen": secrets.split()}}
    status, answer = azure(asked)
    if status == 200:
        said = b64encode(secrets.encode()).decode() if "Отзыв 2" in text else secrets
        answer["choices"][0]["message"]["content"] = f"да {said}"
    return status, answer


def test_headers_and_a_query_reach_the_endpoint_and_their_values_nothing_else(
    shell: Shell,
) -> None:
    shell.write("in.jsonl", batch_lines(3))
    (shell.folder / "key").write_text("canary-header\n")
    (shell.folder / "key").chmod(0o600)
    with foreign(quoting) as endpoint:
        url = f"{endpoint.root}/openai/deployments/m?api-version=2024-10-21"
        given = ("--header", "api-key=@key", "--header", "Authorization=")
        title = ("--header", "X-Title=Night shift", "--header", "X-Org=env:ORG")
        ended = shell(
            *("run", "in.jsonl", "--yes", "--base-url", url, *given, *title),
            *("--notify-url", f"{endpoint.root}/hook/canary-hook"),
            code=1,
            ORG="canary-org-7",
        )
        heard = endpoint.chats()

        (job,) = shell.job_ids()
        shell("resume", job, "--retry-failed", code=2)  # none of the headers is kept

    assert "2 of 3 answered" in ended.err
    chats = [one for one in heard if "x-org" in one.headers]
    assert {(one.headers["x-title"], one.headers["x-org"]) for one in chats} == {
        ("Night shift", "canary-org-7")
    }
    assert [one.path for one in heard if one not in chats] == ["/hook/canary-hook"]
    files = {path: path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()}
    kept = b"".join(layer for data in files.values() for layer in layers(data))
    assert kept.count(b"canary-header") == 1
    for secret in (b"canary-header", b"canary-org-7"):
        assert b64encode(secret)[2:-4] not in kept
        assert secret not in (ended.out + ended.err).encode()
    assert b"canary-org-7" not in kept
    assert b"no such thing: [key redacted]" in kept
    assert b"Night shift" not in kept
    # The address of a webhook is known to the job's own files alone.
    assert "canary-hook" not in ended.out + ended.err
    with_hook = {
        path.relative_to(shell.folder).parts[:3]
        for path, data in files.items()
        if b"canary-hook" in data
    }
    assert with_hook == {("home", "jobs", job)}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--header", "api-key=canary"), "api-key=@FILE, api-key=env:VARIABLE"),
        (("--header", "X-Title"), "NAME=VALUE, NAME=@FILE or NAME=env:VARIABLE"),
        (("--header", "Host=evil"), "the header Host cannot be set"),
        (("--header", "X-Org=env:NOT_SET"), "NOT_SET, which is not set"),
        (("--header", "X-Org=@nowhere"), "nowhere"),
        (("--base-url", "http://10.0.0.1/v1"), "use https, or --insecure-http"),
        (("--base-url", "http://example.com/v1", "--insecure-http"), "unencrypted; use https"),
        (("--base-url", "https://h/v1/chat/completions"), "use https://h/v1"),
        (("--base-url", "https://h/v1?api_key=canary"), "pass it with --header"),
        (("--base-url", "https://h/v1?v=1&accessToken=canary"), "pass it with --header"),
        (("--base-url", "https://h/v1?tenant=sk-canary"), "pass it with --header"),
    ],
)
def test_what_cannot_be_a_header_or_an_address_is_told_before_anything_is_sent(
    shell: Shell, options: tuple[str, ...], told: str
) -> None:
    shell.write("in.jsonl", batch_lines(1))

    ended = shell("run", "in.jsonl", "--yes", *options, code=2)

    assert told in " ".join(ended.err.split())
    assert "canary" not in ended.err
    assert shell.job_ids() == []


def test_headers_of_the_environment_stand_one_a_line(shell: Shell) -> None:
    shell.write("in.jsonl", batch_lines(1))
    with foreign(lambda _: (200, completion())) as endpoint:
        shell(
            *("run", "in.jsonl", "--yes", "--base-url", f"{endpoint.root}/v1"),
            NIGHTSHIFT_HEADER="X-Title=Night shift\nAuthorization=Basic abc\n",
        )
        (call,) = endpoint.chats()

    assert call.headers["x-title"] == "Night shift"
    assert call.headers["authorization"] == "Basic abc"


def openai_like(asked: Asked) -> Answer:
    """Lists no models, and lives under /v1."""
    if asked.path != "/v1/chat/completions":
        return 404, PAGE
    if not asked.json:
        return 400, {"error": {"message": "messages: field required"}}
    return 200, completion()


@pytest.mark.parametrize("path", ["", "/v1/models", "/api"])
def test_a_wrong_address_is_told_with_the_right_one_before_the_first_row(
    shell: Shell, path: str
) -> None:
    shell.write("in.jsonl", batch_lines(2))
    with foreign(openai_like) as endpoint:
        wrong = endpoint.root + path
        ended = shell("run", "in.jsonl", "--yes", "--base-url", wrong, code=2)
        told = shell("doctor", "--base-url", wrong, code=4)

        assert f"--base-url {endpoint.root}/v1" in ended.err
        assert f"--base-url {endpoint.root}/v1" in told.out
        assert shell.job_ids() == []
        assert not endpoint.chats()

        shell("run", "in.jsonl", "--yes", "--base-url", f"{endpoint.root}/v1")
        assert len(endpoint.chats()) == 2


def test_doctor_tells_a_key_that_was_looked_at_from_one_that_was_not(shell: Shell) -> None:
    def careful(asked: Asked) -> Answer:
        if not asked.path.startswith("/v1/chat"):
            return 404, {"detail": "Not Found"}
        known = asked.headers.get("authorization") == "Bearer right"
        return (400, {"error": "no messages"}) if known else (401, {"error": "no such key"})

    def careless(asked: Asked) -> Answer:
        if asked.path == "/v1/models":
            return 200, {"data": []}
        return (400, {"error": "no messages"}) if asked.method == "POST" else (404, {})

    def doctor(answer: Callable[[Asked], Answer], key: str, code: int = 0) -> str:
        with foreign(answer) as endpoint:
            url = f"{endpoint.root}/v1"
            return shell("doctor", "--base-url", url, code=code, ROUTERAI_API_KEY=key).out

    def crashing(asked: Asked) -> Answer:
        return (500, "Internal Server Error") if asked.method == "POST" else (404, {})

    assert "answers an empty request with HTTP 500" in doctor(crashing, "right")
    right, wrong = doctor(careful, "right"), doctor(careful, "wrong", code=4)
    anyones = doctor(careless, "right")

    assert "accepted; the endpoint does not report a balance" in right
    assert "lists no models, so no prices are known" in right
    assert "the endpoint rejects the key (HTTP 401)" in wrong
    assert "not checked" in anyones
    assert "lists no models" not in anyones


def test_dollars_of_an_unknown_host_are_not_counted_as_roubles(shell: Shell) -> None:
    """A host like OpenRouter's own: prices as texts, and a cost in the same money."""

    def dollars(asked: Asked) -> Answer:
        if asked.path == "/v1/models":
            pricing = {"prompt": "0.000001", "completion": "0.000002"}
            return 200, {"data": [{"id": MODEL, "pricing": pricing}]}
        if asked.method == "GET":
            return 404, {"error": "no such path"}
        answer = completion()
        answer["usage"]["cost"] = 0.00002
        return 200, answer

    shell.write("in.jsonl", batch_lines(3))
    with foreign(dollars) as endpoint:
        run = ("run", "in.jsonl", "--yes", "--base-url", f"{endpoint.root}/v1")
        capped = shell(*run, "--budget-rub", "5", code=2)
        assert not endpoint.chats()
        bare = shell(*run, "-o", "bare")
        rated = shell(*run, "-o", "rated", "--usd-rate", "100", "--budget-rub", "5")
        tokens = shell(*run, "-o", "tokens", "--budget-tokens", "2500")

    assert "--currency RUB, or --usd-rate 90.5" in capped.err
    assert "the currency of 127.0.0.1 is unknown" in bare.err
    assert cost_of(shell.folder / "bare") == 0
    assert "in dollars, at 100.00 ₽ per dollar" in rated.err
    assert cost_of(shell.folder / "rated") == Decimal("0.006")
    assert "3 of 3 answered" in tokens.err


FLEXIBLE = "openai/gpt-flex"


def test_a_lane_of_the_endpoint_is_priced_asked_for_and_booked_as_it_was_given(
    shell: Shell, simulator: Callable[..., Simulator]
) -> None:
    """Half the price; one row is pinned to a provider that does not sell the lane."""
    endpoint = simulator("--hidden-tokens", "0")
    shell.point_at(endpoint)
    lines = batch_lines(9, model=FLEXIBLE, max_tokens=50).splitlines()
    pinned = json.loads(lines[0])
    pinned["body"]["provider"] = {"only": ["azure"]}
    shell.write("in.jsonl", "\n".join([json.dumps(pinned), *lines[1:]]))

    usual, flex, priority = (
        json.loads(shell("estimate", "in.jsonl", "--json", *tier).out)
        for tier in ((), ("--service-tier", "flex"), ("--service-tier", "priority"))
    )
    told = shell("estimate", "in.jsonl").out
    likely = [Decimal(one["rub"]["likely"]) for one in (flex, usual, priority)]
    assert likely == sorted(set(likely))
    assert Decimal(usual["flex_likely_rub"]) == likely[0]
    assert flex["flex_likely_rub"] is None
    assert "with --service-tier flex about" in told
    # A lane that is full may be served, and billed, as usual; nobody is given the dear one.
    assert Decimal(flex["rub"]["at_most"]) >= Decimal(usual["rub"]["at_most"])
    assert Decimal(priority["rub"]["at_most"]) > Decimal(usual["rub"]["at_most"])

    run = ("run", "in.jsonl", "--yes", "--budget-rub", "10", "--service-tier")
    shell(*run, "flex", "-o", "flex")
    shell(*run, "priority", "-o", "priority")

    for name in ("flex", "priority"):
        cost = json.loads((shell.folder / name / "cost.json").read_text())
        tiers = cost["by_service_tier"]
        assert {tier: each["calls"] for tier, each in tiers.items()} == {"default": 1, name: 8}
        assert sum(Decimal(each["cost_rub"]) for each in tiers.values()) == cost_of(
            shell.folder / name
        )
        assert cost["unlisted"] == []
    assert 3 < cost_of(shell.folder / "priority") / cost_of(shell.folder / "flex") < 4
    assert "flex tier: 8 calls for" in shell("cost", shell.job_ids()[0]).out
    assert "By service tier" in (shell.folder / "flex" / "report.html").read_text()


def test_a_bound_is_called_as_the_endpoint_wants_it(shell: Shell) -> None:
    def reasoning(asked: Asked) -> Answer:
        if asked.method == "GET":
            return 404, {}
        if "max_tokens" in asked.json:
            told = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return 400, {"error": {"message": told, "code": "unsupported_parameter"}}
        return (200, completion()) if asked.json else (400, {"error": "no messages"})

    named = batch_lines(1, max_tokens=7)
    bare = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "да"}]})
    shell.write("in.jsonl", named + bare)
    with foreign(reasoning) as endpoint:
        run = ("run", "in.jsonl", "--yes", "--max-tokens", "9", "--base-url", endpoint.root + "/v1")
        shell(*run, "-o", "refused", code=1)
        shell(*run, "--max-tokens-field", "max_completion_tokens", "-o", "fine")
        bounds = [call.json.get("max_completion_tokens") for call in endpoint.chats()[-2:]]
        shell.write("t.csv", "a\nда\n")
        table = ("t.csv", *run[2:], "--prompt", "{{ a }}", "--model", MODEL, "-o", "table")
        field = ("--max-tokens-field", "max_completion_tokens", "--service-tier", "flex")
        shell("run", *table, *field)
        row = endpoint.chats()[-1].json

    errors = (shell.folder / "refused" / "errors.jsonl").read_text()
    assert "Use 'max_completion_tokens' instead" in errors
    assert "--max-tokens-field max_completion_tokens" in errors
    assert sorted(bounds) == [7, 9]
    assert (row["max_completion_tokens"], row["service_tier"]) == (9, "flex")


def test_an_endpoint_without_responses_answers_them_by_chat_or_is_not_asked(
    shell: Shell, simulator: Callable[..., Simulator]
) -> None:
    endpoint = simulator("--without", "responses")
    shell.point_at(endpoint)
    told = {"answer": {"type": "string"}, "n": {"type": "integer"}}
    schema = {"type": "object", "properties": told, "required": [*told]}
    form = {"format": {"type": "json_schema", "name": "tone", "schema": schema}}
    bodies = [
        {"input": "Хорош?", "instructions": "Коротко.", "max_output_tokens": 900, "text": form},
        {"input": [{"role": "user", "content": "Хорош?"}], "max_output_tokens": 20},
        {"input": "И теперь?", "max_output_tokens": 20, "previous_response_id": "resp_1"},
    ]
    lines = [
        json.dumps(
            {"custom_id": f"r-{n}", "url": "/v1/responses", "body": {"model": MODEL, **body}}
        )
        for n, body in enumerate(bodies)
    ]
    shell.write("all.jsonl", "\n".join(lines))
    shell.write("in.jsonl", "\n".join(lines[:2]))

    refused = shell("run", "all.jsonl", "--yes", code=2)
    assert "previous_response_id" in refused.err
    assert not endpoint.book().billed()
    shell("run", "in.jsonl", "--yes", "--budget-rub", "9", "-o", "out")
    found = [json.loads(line) for line in (shell.folder / "out/output.jsonl").open()]
    read = [Response.model_validate(each["response"]["body"]) for each in found]
    assert [each.status for each in read] == ["completed", "incomplete"]
    assert set(json.loads(read[0].output_text)) == {"answer", "n"}
    assert found[1]["nightshift"]["flags"] == ["truncated"]
    assert cost_of(shell.folder / "out") == sum(each.billed for each in endpoint.book())
