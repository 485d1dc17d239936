"""The parts that need no server: prices, hours, latencies, rules, exact numbers."""

import json
from datetime import UTC, datetime, time
from decimal import Decimal
from random import Random
from typing import Any

import jsonschema_rs
import pytest

from scripts.simulator import tables
from scripts.simulator.call_cost import Tokens, cost_of, prices_for
from scripts.simulator.catalogue import MODELS, Hours, Provider, Threshold
from scripts.simulator.exact_json import Raw, dumps, plain
from scripts.simulator.fault_kinds import KINDS, MIX, describe_kinds
from scripts.simulator.faults import Plot, Script, Seen, parse_rules
from scripts.simulator.latency import parse_latency
from scripts.simulator.schema_instances import instance

NIGHT = datetime(2026, 11, 23, 23, 0, tzinfo=UTC)
DAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def test_a_threshold_is_passed_only_by_a_longer_prompt_and_then_holds_for_all_of_it() -> None:
    dear = {"prompt": Decimal(3)}
    provider = Provider("P", _prices(), (Threshold(100, dear),))

    at, above = (prices_for(provider, tokens, DAY) for tokens in (100, 101))

    assert cost_of(Tokens(100, 1), at) == 100 * 1 + 2
    assert cost_of(Tokens(101, 1), above) == 101 * 3 + 2


def test_prices_by_the_hour_run_over_midnight() -> None:
    hours = Hours(time(16, 30), time(0, 30), {"prompt": Decimal("0.5")})
    provider = Provider("P", _prices(), (hours,))

    assert prices_for(provider, 1, NIGHT)["prompt"] == Decimal("0.5")
    assert prices_for(provider, 1, DAY)["prompt"] == 1
    assert [hours.holds(time(h, m)) for h, m in ((16, 29), (16, 30), (0, 29), (0, 30))] == [
        False,
        True,
        True,
        False,
    ]


def test_cached_and_written_tokens_have_their_own_prices() -> None:
    prices = _prices(input_cache_read="0.1", input_cache_write="1.5", request="7")

    cost = cost_of(Tokens(prompt=100, completion=10, cached=40, written=20, reasoning=4), prices)

    assert cost == 40 * 1 + Decimal("0.1") * 40 + Decimal("1.5") * 20 + 10 * 2 + 7
    assert cost_of(Tokens(prompt=100, cached=40), _prices()) == 100


def test_no_model_on_sale_is_free() -> None:
    for model in MODELS:
        for provider in model.providers:
            assert cost_of(Tokens(100, 1), prices_for(provider, 100, DAY)) > 0


def test_exact_numbers_are_written_digit_by_digit() -> None:
    figures = [Decimal("0.0000522948192"), Decimal("1E-18"), Decimal("12.500"), Decimal(0)]

    written = dumps({"figures": figures, "text": '"1.5"', "raw": Raw("1e999")})

    assert written == (
        b'{"figures":[0.0000522948192,0.000000000000000001,12.5,0],"text":"\\"1.5\\"","raw":1e999}'
    )
    assert plain(Decimal("-0.10")) == "-0.1"


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("none", 0, 0),
        ("constant:1.5", 1.5, 1.5),
        ("uniform:1:2", 1, 2),
        ("lognormal:20:0.8:30", 0.1, 30),
    ],
)
def test_a_latency_stays_within_its_bounds(text: str, low: float, high: float) -> None:
    draws = [parse_latency(text)(Random(seed)) for seed in range(200)]

    assert low <= min(draws)
    assert max(draws) <= high


@pytest.mark.parametrize(
    "text", ["", "sometimes", "constant", "constant:-1", "uniform:1", "none:1"]
)
def test_a_latency_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="latency"):
        parse_latency(text)


def test_a_share_falls_on_the_same_requests_every_time() -> None:
    plots = [_hits(Script(parse_rules(["500:share=0.3"]), seed=5)) for _ in range(2)]
    other = _hits(Script(parse_rules(["500:share=0.3"]), seed=6))

    assert plots[0] == plots[1] != other
    assert 200 < len(plots[0]) < 400


def test_a_share_may_spare_a_repeated_attempt() -> None:
    script = Script(parse_rules(["500:share=0.5"]))

    struck = [script.pick(_seen(1, attempt=attempt)) != Plot() for attempt in range(1, 50)]

    assert True in struck
    assert False in struck


def test_rules_can_be_narrowed_by_row_model_call_attempt_and_count() -> None:
    assert _hits(Script(parse_rules(["500:row=row 7x"])), 20) == []
    assert _hits(Script(parse_rules(["500:row=row 7."])), 20) == [7]
    assert _hits(Script(parse_rules(["500:model=other"])), 20) == []
    assert _hits(Script(parse_rules(["500:call=4"])), 20) == [4]
    assert _hits(Script(parse_rules(["500:every=6"])), 20) == [6, 12, 18]
    assert _hits(Script(parse_rules(["500:from_call=4,until_call=6"])), 20) == [4, 5, 6]
    assert _hits(Script(parse_rules(["500:times=2"])), 20) == [1, 2]
    assert _hits(Script(parse_rules(["500:attempt=2"])), 20) == []
    assert _hits(Script(parse_rules(["500:from=60"])), 20) == []
    assert len(_hits(Script(parse_rules(["500:until=60"])), 20)) == 20
    assert _hits(Script(parse_rules(["500:on=models"])), 20) == []


def test_a_rule_can_strike_each_request_once() -> None:
    script = Script(parse_rules(["cut:times_per_request=1"]))

    first = [script.pick(_seen(number)).name for number in range(3)]
    again = [script.pick(_seen(number, attempt=2)).name for number in range(3)]

    assert (first, again) == (["cut"] * 3, [None] * 3)


def test_the_first_rule_that_matches_is_played_and_answer_rules_add_up() -> None:
    script = Script(parse_rules(["price", "429:call=1", "slow", "500", "usage"]))

    refused, answered = script.pick(_seen(1)), script.pick(_seen(2))

    assert refused.name == "429"
    assert answered.name == "slow+price+usage"


def test_rules_come_as_text_json_text_and_objects() -> None:
    text, coded, given = parse_rules(
        [
            "wrapped:code=429,retry_after=7,share=0.5",
            '{"kind": "wrapped", "code": 429, "retry_after": "7", "share": 0.5}',
            {"kind": "wrapped", "code": 429, "retry_after": 7, "share": 0.5},
        ]
    )

    assert text.settings == coded.settings == given.settings
    assert text.when == coded.when == given.when


@pytest.mark.parametrize(
    "rule",
    ["nothing", "429:what=1", "429:share=x", "429:meaning=x", "wrapped:form=x", '{"share": 1}'],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        parse_rules([rule])


def test_a_mix_spreads_its_share_over_many_kinds() -> None:
    rules = parse_rules(["mix:share=0.2,until=9"])

    assert len(rules) == len(MIX)
    assert sum(rule.when["share"] for rule in rules) == pytest.approx(0.2)
    assert all(rule.when["until"] == 9 for rule in rules)
    assert len({rule.kind for rule in rules}) > 20


def test_every_kind_is_explained() -> None:
    assert all(kind in describe_kinds() for kind in KINDS)


def _prices(**others: str) -> dict[str, Decimal]:
    figures = {"prompt": "1", "completion": "2", **others}
    return {key: Decimal(figure) for key, figure in figures.items()}


def _seen(number: int, attempt: int = 1) -> Seen:
    digest = number.to_bytes(32, "big")
    return Seen("chat", number, attempt, f"row {number}.".encode(), digest, "minimax/minimax-m1")


def _hits(script: Script, count: int = 1000) -> list[int]:
    return [number for number in range(1, count + 1) if script.pick(_seen(number)).name]


TONE = {"enum": ["good", "bad"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"tone": TONE, "n": {"type": "integer", "minimum": 3}}},
        {"type": "array", "items": {"$ref": "#/$defs/x"}, "minItems": 2, "$defs": {"x": TONE}},
        {"type": "number", "exclusiveMinimum": 1, "maximum": 2, "multipleOf": 0.25},
        {"type": "integer", "exclusiveMinimum": -5, "exclusiveMaximum": 7},
        {"type": ["string", "null"], "minLength": 30, "maxLength": 40},
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"const": 1}}}]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"next": {"$ref": "#/$defs/a"}}}}},
        {"type": "boolean"},
        True,
    ],
)
def test_what_is_made_by_a_schema_fits_it(schema: Any) -> None:
    for seed in range(5):
        made = instance(schema, Random(seed), "bad")
        jsonschema_rs.validate(schema, json.loads(json.dumps(made)))


def test_rows_get_their_truth_by_the_schema_that_the_prompt_tells_alone_and_together() -> None:
    schema = json.dumps({"type": "object", "properties": {"tone": TONE}})
    alone = f"label: bad\n\nAnswer only with JSON that matches this JSON Schema, please:\n{schema}"
    packed = f'Answers: JSON that matches the schema {schema}\n\nbc "label: bad" df'

    assert tables.say(alone, 0, Random(1)) == '{"tone": "bad"}'
    assert tables.say(packed, 0, Random(1)) == 'bc df {"tone": "bad"}'
