from __future__ import annotations

import json
from io import BytesIO

import pytest

from batch.reading.reader import Defaults, read
from jobs.request import Fault, Request

HELLO = '[{"role":"user","content":"hello"}]'
BARE = f'{{"model":"m","messages":{HELLO}}}'


def enveloped(body: str = BARE, custom_id: str = '"a"', more: str = "") -> bytes:
    head = f'{{"custom_id":{custom_id},"method":"POST","url":"/v1/chat/completions"'
    return f'{head},"body":{body}{more}}}'.encode()


def body_with(members: str) -> bytes:
    return enveloped(f'{{"model":"m","messages":{HELLO},{members}}}')


def read_all(data: bytes, defaults: Defaults | None = None) -> list[Request | Fault]:
    return list(read(BytesIO(data), defaults or Defaults()))


def request_on(line: bytes, defaults: Defaults | None = None) -> Request:
    (result,) = read_all(line, defaults)
    assert isinstance(result, Request), result
    return result


def fault_on(line: bytes, defaults: Defaults | None = None) -> Fault:
    (result,) = read_all(line, defaults)
    assert isinstance(result, Fault), result
    return result


GOOD = enveloped()
REFUSED = [
    ("I1 broken JSON", b'{"a":', "input.json", 5),
    ("I1 text behind", GOOD + b" x", "input.json", len(GOOD) + 1),
    ("I1 two values", GOOD + GOOD, "input.json", len(GOOD)),
    ("I1 null", b"null", "input.json", 0),
    ("I1 list", b"[1]", "input.json", 0),
    ("I1 number", b"7", "input.json", 0),
    ("I1 string not closed", b'{"messages":"x', "input.json", 14),
    ("I1 bad escape", b'{"messages":"\\x"}', "input.json", 13),
    ("I1 leading zero", body_with('"seed":01'), "input.json", None),
    ("I1 comma too many", body_with('"seed":1,'), "input.json", None),
    ("I1 word cut short", body_with('"stop":nul'), "input.json", None),
    ("I3 UTF-16 with mark", GOOD.decode().encode("utf-16"), "input.encoding", 0),
    ("I3 UTF-16 without mark", GOOD.decode().encode("utf-16-le"), "input.encoding", 0),
    ("I3 UTF-32", GOOD.decode().encode("utf-32-be"), "input.encoding", 0),
    ("I5 raw NUL", GOOD.replace(b"hello", b"he\0lo"), "input.json", None),
    ("I5 raw tab", GOOD.replace(b"hello", b"he\tlo"), "input.json", None),
    ("I6 lone high surrogate", GOOD.replace(b"hello", b"\\ud800"), "input.surrogate", None),
    ("I6 lone low surrogate", GOOD.replace(b"hello", b"\\uDC00"), "input.surrogate", None),
    ("I6 surrogate in a key", body_with('"\\udabc":1'), "input.surrogate", None),
    ("I7 invalid byte", GOOD.replace(b"hello", b"\xff"), "input.encoding", None),
    ("I7 overlong", GOOD.replace(b"hello", b"\xc0\xaf"), "input.encoding", None),
    ("I7 encoded surrogate", GOOD.replace(b"hello", b"\xed\xa0\x80"), "input.encoding", None),
    ("I8 too many values", body_with(f'"x":[{"0," * 100_000}0]'), "input.too_long", None),
    ("I10 no custom_id", b'{"body":' + BARE.encode() + b"}", "input.field", None),
    ("I10 custom_id a number", enveloped(custom_id="7"), "input.field", None),
    ("I10 custom_id null", enveloped(custom_id="null"), "input.field", None),
    ("I10 no body", b'{"custom_id":"a","method":"POST"}', "input.field", None),
    ("I10 empty object", b"{}", "input.field", None),
    ("I10 body a list", enveloped("[]"), "input.field", None),
    ("I10 no model", enveloped(f'{{"messages":{HELLO}}}'), "input.field", None),
    ("I10 model null", enveloped(f'{{"model":null,"messages":{HELLO}}}'), "input.field", None),
    ("I10 model empty", enveloped(f'{{"model":"","messages":{HELLO}}}'), "input.field", None),
    ("I10 no messages", enveloped('{"model":"m"}'), "input.field", None),
    ("I10 messages empty", enveloped('{"model":"m","messages":[]}'), "input.field", None),
    ("I10 messages a string", b'{"model":"m","messages":"hi"}', "input.field", None),
    ("I10 message a string", enveloped('{"model":"m","messages":["hi"]}'), "input.field", None),
    ("I10 no role", b'{"model":"m","messages":[{"content":"x"}]}', "input.field", None),
    (
        "I10 content 7",
        b'{"model":"m","messages":[{"role":"user","content":7}]}',
        "input.field",
        None,
    ),
    (
        "I10 part 7",
        b'{"model":"m","messages":[{"role":"user","content":[7]}]}',
        "input.field",
        None,
    ),
    ("I11 brackets", b"[" * 100_000 + b"]" * 100_000, "input.depth", 64),
    ("I11 brackets in a body", body_with(f'"x":{"[" * 63}{"]" * 63}'), "input.depth", None),
    ("I12 NaN", body_with('"temperature":NaN'), "input.number", None),
    ("I12 Infinity", body_with('"temperature":Infinity'), "input.number", None),
    ("I12 -Infinity", body_with('"temperature":-Infinity'), "input.number", None),
    ("I12 1e999", body_with('"temperature":1e999'), "input.number", None),
    ("I13 in the body", body_with('"model":"n"'), "input.duplicate_key", None),
    ("I13 in the line", enveloped(more=',"custom_id":"b"'), "input.duplicate_key", None),
    ("I13 deep inside", body_with('"x":{"k":1,"k":1}'), "input.duplicate_key", None),
    ("I13 by an escape", body_with('"\\u006dodel":"n"'), "input.duplicate_key", None),
    ("I14 5,000 digits", body_with(f'"seed":{"1" * 5000}'), "input.number", None),
    ("I16 stream", body_with('"stream":true'), "input.unsupported", None),
    ("I16 n 2", body_with('"n":2'), "input.unsupported", None),
    ("I16 n true", body_with('"n":true'), "input.unsupported", None),
    ("I18 empty id", enveloped(custom_id='""'), "input.field", 13),
    ("I18 10 KB id", enveloped(custom_id=json.dumps("x" * 10_000)), "input.field", 13),
    ("I18 control", enveloped(custom_id='"a\\u001b[2J"'), "input.field", 13),
    ("I18 bidi", enveloped(custom_id='"a\u202eb"'), "input.field", 13),
    ("I18 line separator", enveloped(custom_id='"a\\u2028b"'), "input.field", 13),
    ("I19 other path", GOOD.replace(b"chat/completions", b"images/edits"), "input.url", None),
    ("I19 url null", GOOD.replace(b'"/v1/chat/completions"', b"null"), "input.url", None),
    ("I19 GET", GOOD.replace(b"POST", b"GET"), "input.url", None),
    ("I19 base_url", body_with('"base_url":"https://evil.test"'), "input.url", None),
    ("I21 negative", body_with('"max_tokens":-1'), "input.field", None),
    ("I21 zero", body_with('"max_tokens":0'), "input.field", None),
    ("I21 float", body_with('"max_tokens":1.0'), "input.field", None),
    ("I21 bool", body_with('"max_completion_tokens":true'), "input.field", None),
    ("I21 larger than any answer", body_with('"max_tokens":99999999999'), "input.field", None),
    ("I23 extra_headers", body_with('"extra_headers":{}'), "input.unsupported", None),
    ("I23 api_key", body_with('"api_key":"sk-1"'), "input.api_key", None),
    ("I23 API-Key", body_with('"API-Key":"sk-1"'), "input.api_key", None),
    ("I23 api_key beside body", enveloped(more=',"api_key":"sk-1"'), "input.api_key", None),
]


@pytest.mark.parametrize(
    ("line", "code", "offset"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_line_is_refused_with_its_number_code_and_byte(
    line: bytes, code: str, offset: int | None
) -> None:
    results = read_all(b"\n" + GOOD + b"\n" + line + b"\n" + GOOD)

    first, fault, *_ = results
    assert isinstance(first, Request)
    assert isinstance(fault, Fault)
    assert (fault.line, fault.code) == (3, code)
    assert offset is None or fault.offset == offset
    assert fault.message.isprintable()
    assert "hello" not in fault.message
    assert "sk-1" not in fault.message


PASSED = [
    ("I5 escaped NUL", GOOD.replace(b"hello", b"\\u0000")),
    ("I6 whole pair", GOOD.replace(b"hello", b"\\ud83d\\ude00")),
    ("I6 backslash before u", GOOD.replace(b"hello", b"\\\\ud800")),
    ("I11 64 levels", body_with(f'"x":{"[" * 62}{"]" * 62}')),
    ("I14 2^64", body_with('"seed":18446744073709551616')),
    ("I14 many decimals", body_with(f'"temperature":0.{"1" * 5000}')),
    ("I16 stream false, n 1", body_with('"stream":false,"n":1')),
    ("I17 line ends of Unicode", GOOD.replace(b"hello", "\u2028\u2029\u0085".encode())),
    ("I18 a path", enveloped(custom_id='"../../etc/x"')),
    ("I18 a formula", enveloped(custom_id='"=HYPERLINK()"')),
    ("I22 images", GOOD.replace(b'"hello"', b'[{"type":"image_url","image_url":{"url":"u"}}]')),
    ("I23 unknown keys", body_with('"provider" : { "order":["x"] }, "yet_unknown":1e2')),
]


@pytest.mark.parametrize("line", [case[1] for case in PASSED], ids=[case[0] for case in PASSED])
def test_a_body_goes_out_byte_for_byte(line: bytes) -> None:
    body = line[line.index(b'"body":') + len(b'"body":') : -1]

    first, second = read_all(line + b"\n" + line)

    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.body == second.body == body


def test_a_mark_is_accepted_on_the_first_line_only_i2() -> None:
    mark = b"\xef\xbb\xbf"

    first, second = read_all(mark + GOOD + b"\n" + mark + GOOD)

    assert isinstance(first, Request)
    assert isinstance(second, Fault)
    assert (second.line, second.code, second.offset) == (2, "input.encoding", 0)


def test_crlf_ends_a_line_and_a_bare_cr_does_not_i4() -> None:
    spaced = GOOD.replace(b',"method"', b',\r"method"')

    results = read_all(GOOD + b"\r\n" + spaced + b"\r\n" + GOOD)

    assert [result.line for result in results] == [1, 2, 3]
    assert {result.body for result in results if isinstance(result, Request)} == {BARE.encode()}


def test_blank_lines_are_counted_and_skipped_i15() -> None:
    results = read_all(b"\n \t\r\n" + GOOD + b"\n\n" + GOOD)

    assert [result.line for result in results] == [3, 5]
    assert all(isinstance(result, Request) for result in results)


def test_an_empty_file_has_no_requests_i15() -> None:
    assert read_all(b"") == []
    assert read_all(b"\n\n") == []


def test_a_bare_body_is_named_by_its_line_unless_it_has_an_id_i10() -> None:
    named = b'{"custom_id": "x", "model":"m", "messages":' + HELLO.encode() + b"}"

    first, second = read_all(BARE.encode() + b"\n" + named)

    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert (first.custom_id, second.custom_id) == ("line-1", "x")
    assert second.body == b'{"model":"m", "messages":' + HELLO.encode() + b"}"


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (f'{{"messages":{HELLO}, "custom_id":"x"}}', f'{{"messages":{HELLO}}}'),
        (f'{{"custom_id":"x","messages":{HELLO}}}', f'{{"messages":{HELLO}}}'),
        (
            f'{{"user":"u","custom_id":"x" ,"messages":{HELLO}}}',
            f'{{"user":"u","messages":{HELLO}}}',
        ),
        (f' {{ "messages":{HELLO} }} ', f'{{ "messages":{HELLO} }}'),
    ],
)
def test_an_id_is_cut_out_and_defaults_are_put_in_front(line: str, body: str) -> None:
    request = request_on(line.encode(), Defaults("m", 7))

    assert request.body.decode() == '{"max_tokens":7,"model":"m",' + body[1:].lstrip(",") or body
    assert (request.model, request.max_output) == ("m", 7)


def test_a_default_model_leaves_a_told_one_alone() -> None:
    request = request_on(GOOD, Defaults(model="other"))

    assert request.model == "m"
    assert request.body == BARE.encode()


def test_max_tokens_is_put_in_only_where_no_limit_is_told_i21() -> None:
    defaults = Defaults(max_tokens=7)

    without = request_on(GOOD, defaults)
    null = request_on(body_with('"max_tokens":null'), defaults)
    told = request_on(body_with('"max_completion_tokens":9'), defaults)

    assert json.loads(without.body)["max_tokens"] == without.max_output == 7
    assert json.loads(null.body)["max_tokens"] == null.max_output == 7
    assert told.max_output == 9
    assert b"max_tokens" not in told.body


def test_the_larger_of_two_limits_bounds_the_answer() -> None:
    assert request_on(body_with('"max_tokens":5,"max_completion_tokens":9')).max_output == 9
    assert request_on(GOOD).max_output is None


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (GOOD, ""),
        (GOOD.replace(b'"hello"', b'[{"type":"text","text":"x"}]'), ""),
        (GOOD.replace(b'"hello"', b'[{"type":"text"},{"type":"image_url"}]'), "image_url"),
        (GOOD.replace(b'"hello"', b'[{"type":"input_audio"}]'), "input_audio"),
        (GOOD.replace(b'"hello"', b'[{"type":"file"}]'), "file"),
        (GOOD.replace(b'"model":"m"', b'"model":"m:online"'), ":online"),
        (body_with('"plugins":[{"id":"web"}]'), "plugins"),
        (body_with('"plugins":[]'), ""),
        (body_with('"web_search_options":{}'), "web_search_options"),
        (body_with('"models":["dear"]'), "models"),
        (body_with('"tools":[{"type":"function"}]'), ""),
        (body_with('"tools":[{"type":"web_search"}]'), "web_search"),
        (body_with('"modalities":["text"]'), ""),
        (body_with('"modalities":["text","audio"]'), "modalities"),
        (body_with('"service_tier":"flex"'), ""),
        (body_with('"service_tier":"priority"'), "service_tier"),
    ],
)
def test_a_part_that_no_size_bounds_is_named_i22(line: bytes, part: str) -> None:
    assert request_on(line).unbounded == part


def test_messages_are_counted() -> None:
    assert (
        request_on(GOOD.replace(HELLO.encode(), b"[" + HELLO[1:-1].encode() * 1 + b"]")).messages
        == 1
    )
    two = HELLO[:-1] + "," + HELLO[1:]
    assert request_on(enveloped(f'{{"model":"m","messages":{two}}}')).messages == 2


def test_a_fault_knows_the_id_where_it_can_be_read() -> None:
    assert fault_on(body_with('"n":2')).custom_id == "a"
    assert fault_on(b"{").custom_id is None


def test_a_missing_model_tells_of_the_option() -> None:
    assert "--model" in fault_on(b'{"messages":' + HELLO.encode() + b"}").message


@pytest.mark.parametrize(
    ("provider", "pin"),
    [
        ('{"only":["mm"],"allow_fallbacks":false}', "mm"),
        ('{"order":["mm","novita"],"allow_fallbacks":false}', "mm,novita"),
        ('{"only":["mm"],"order":["x"],"allow_fallbacks":false}', "mm"),
        ('{"only":["mm"]}', ""),
        ('{"only":["mm"],"allow_fallbacks":true}', ""),
        ('{"ignore":["mm"],"allow_fallbacks":false}', ""),
        ('{"only":[7],"allow_fallbacks":false}', ""),
        ('"mm"', ""),
    ],
)
def test_only_a_firm_choice_of_providers_is_a_pin(provider: str, pin: str) -> None:
    lines = body_with(f'"provider":{provider}') + b"\n"

    found = read_all(lines + lines.replace(b'"a"', b'"b"'))

    assert [each.pin for each in found if isinstance(each, Request)] == [pin, pin]


@pytest.mark.parametrize(
    ("body", "wanted", "found"),
    [
        ('"max_tokens":7', "max_completion_tokens", {"max_completion_tokens": 7}),
        ('"max_completion_tokens":7', "max_tokens", {"max_tokens": 7}),
        ('"max_tokens":7', "max_tokens", {"max_tokens": 7}),
        ("", "max_completion_tokens", {"max_completion_tokens": 9}),
        (
            '"max_tokens":7,"max_completion_tokens":8',
            "max_tokens",
            {"max_tokens": 7, "max_completion_tokens": 8},
        ),
    ],
)
def test_the_bound_of_an_answer_goes_by_the_name_that_the_endpoint_wants(
    body: str, wanted: str, found: dict[str, int]
) -> None:
    line = body_with(body) if body else body_with('"user":"u"')
    # By the rules, and then by the form that they taught.
    request, again = all_of(line + b"\n" + line, wanted)

    sent = json.loads(request.body)
    assert {key: sent[key] for key in sent if "tokens" in key} == found
    assert request.body == again.body


def all_of(data: bytes, wanted: str) -> list[Request]:
    defaults = Defaults(max_tokens=9, max_tokens_field=wanted)
    results = list(read(BytesIO(data), defaults))
    assert all(isinstance(each, Request) for each in results)
    return [each for each in results if isinstance(each, Request)]


@pytest.mark.parametrize(
    ("body", "asked", "sent", "unbounded"),
    [
        ('"user":"u"', "flex", "flex", ""),
        ('"service_tier":null', "flex", "flex", ""),
        ('"service_tier":"default"', "flex", "default", ""),
        ('"service_tier":"priority"', "flex", "priority", "service_tier"),
        ('"service_tier":"priority"', "priority", "priority", ""),
        ('"service_tier":"scale"', None, "scale", "service_tier"),
        ('"user":"u"', None, None, ""),
    ],
)
def test_a_lane_is_put_in_where_none_is_named_and_the_dear_one_is_bounded_only_if_it_is_the_jobs(
    body: str, asked: str | None, sent: str | None, unbounded: str
) -> None:
    request = request_on(body_with(body), Defaults(service_tier=asked))

    assert json.loads(request.body).get("service_tier") == sent
    assert request.unbounded == unbounded


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"// mine", "comments are not JSON"),
        (b"# mine", "comments are not JSON"),
        (b'{"model":"m", // mine', "a key in double quotes is missing"),
        (b'{"a":[1, ]}', "there is a comma before ]"),
        (b'{"a":1, }', "there is a comma before }"),
        (b'{"a":}', "a value is missing"),
        (b'{"a":[]}', '"body" must be an object'),
    ],
)
def test_what_other_kinds_of_json_allow_is_named(line: bytes, told: str) -> None:
    _, fault = read(BytesIO(GOOD + b"\n" + line), Defaults())

    assert isinstance(fault, Fault)
    assert told in fault.message
