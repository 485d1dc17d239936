"""Scripted faults: which call is spoiled, and how.

A rule is a kind with its settings, as compact text or as JSON:

    429:share=0.1,retry_after=7
    wrapped:code=400,status=503,form=nested,times=3
    {"kind": "cut", "row": "custom-17", "times_per_request": 1}

A number alone is a `status` of that code, ``error200`` is a `wrapped` of status 200, and ``mix``
stands for many; `fault_kinds.py` lists them all. The first rule of the family *refusal* or *wire*
that matches a call is played; rules of the family *answer* add up.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .fault_kinds import KINDS, MIX, WHEN, Setting
from .refusals import FORMS, MEANINGS
from .seeded_chance import draw

_WHEN_TYPES: dict[str, type] = {
    "row": str,
    "model": str,
    "from": float,
    "until": float,
    "bill": bool,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault with all its settings filled in. `index` is its place in the list."""

    index: int
    kind: str
    when: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def family(self) -> str:
        """Of its kind."""
        return KINDS[self.kind].family

    @property
    def bills(self) -> bool:
        """Whether a call that it spoils is billed."""
        said = self.when["bill"]
        # An error that names its cost has one.
        usual = KINDS[self.kind].bill or bool(self.settings.get("cost") is True)
        return usual if said is None else bool(said)

    @property
    def name(self) -> str:
        """As the book has it: the code for a status, else the kind."""
        return str(self.settings["code"]) if self.kind == "status" else self.kind


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule may look at. `nth` counts calls on the path, `attempt` those with this body."""

    on: str
    nth: int
    attempt: int
    raw: bytes
    digest: bytes
    model: str | None


@dataclass(frozen=True, slots=True)
class Plot:
    """What will go wrong with a call; all empty for nearly every call."""

    refusal: Rule | None = None
    wire: Rule | None = None
    answer: tuple[Rule, ...] = ()

    @property
    def name(self) -> str | None:
        """The faults' names for the book."""
        rules = (self.refusal, self.wire, *self.answer)
        return "+".join(rule.name for rule in rules if rule) or None


class Script:
    """The rules in force, and how often each was played."""

    def __init__(self, rules: Iterable[Rule] = (), seed: int = 0) -> None:
        self.rules = tuple(rules)
        self._seed = seed
        self._since = time.monotonic()
        self._played: Counter[int] = Counter()
        self._played_for: Counter[tuple[int, bytes]] = Counter()

    def pick(self, seen: Seen) -> Plot:
        """What to do to this call; counts it as played."""
        if not self.rules:
            return Plot()
        main: Rule | None = None
        answer: list[Rule] = []
        for rule in self.rules:
            if (rule.family == "answer" or main is None) and self._matches(rule, seen):
                if rule.family == "answer":
                    answer.append(rule)
                else:
                    main = rule
        return self._plot(main, answer, seen)

    def _plot(self, main: Rule | None, answer: list[Rule], seen: Seen) -> Plot:
        if main and main.family == "refusal":
            answer = []
        for rule in (*answer, *([main] if main else [])):
            self._played[rule.index] += 1
            if rule.when["times_per_request"] is not None:
                self._played_for[rule.index, seen.digest] += 1
        if main is None or main.family == "refusal":
            return Plot(refusal=main, answer=tuple(answer))
        return Plot(wire=main, answer=tuple(answer))

    def _matches(self, rule: Rule, seen: Seen) -> bool:
        when = rule.when
        return (
            when["on"] == seen.on
            and _among(seen, when)
            and self._in_time(when)
            and _below(self._played[rule.index], when["times"])
            and _below(self._played_for[rule.index, seen.digest], when["times_per_request"])
            and self._lot(rule, seen) < when["share"]
        )

    def _in_time(self, when: Mapping[str, Any]) -> bool:
        since = time.monotonic() - self._since
        after, before = when["from"], when["until"]
        return (after is None or since >= after) and (before is None or since < before)

    def _lot(self, rule: Rule, seen: Seen) -> float:
        if rule.when["share"] >= 1:
            return 0.0
        return draw(self._seed, seen.digest, seen.attempt, f"rule {rule.index}")


def parse_rules(given: Iterable[str | Mapping[str, Any]]) -> list[Rule]:
    """Rules from compact texts, JSON texts and objects; `ValueError` says what is wrong."""
    objects = [each for one in given for each in _unmixed(_as_object(one))]
    return [_rule(index, each) for index, each in enumerate(objects)]


def _among(seen: Seen, when: Mapping[str, Any]) -> bool:
    return (
        when["call"] in (None, seen.nth)
        and when["attempt"] in (None, seen.attempt)
        and when["model"] in (None, seen.model)
        and (when["every"] is None or seen.nth % when["every"] == 0)
        and (when["from_call"] is None or seen.nth >= when["from_call"])
        and (when["until_call"] is None or seen.nth <= when["until_call"])
        and (when["row"] is None or when["row"].encode() in seen.raw)
    )


def _below(count: int, most: int | None) -> bool:
    return most is None or count < most


def _as_object(given: str | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, str):
        return dict(given)
    if given.lstrip().startswith("{"):
        found: dict[str, Any] = json.loads(given)
        return found
    kind, _, rest = given.partition(":")
    pairs = (part.partition("=") for part in rest.split(",") if part)
    return {"kind": kind, **{key.strip(): value for key, _, value in pairs}}


def _unmixed(given: dict[str, Any]) -> list[dict[str, Any]]:
    """A `mix` as the rules it stands for, its share spread evenly over them."""
    if given.get("kind") != "mix":
        return [given]
    shared = {key: value for key, value in given.items() if key not in ("kind", "share")}
    share = float(given.get("share", 0.1)) / len(MIX)
    return [_as_object(text) | shared | {"share": share} for text in MIX]


def _rule(index: int, given: dict[str, Any]) -> Rule:
    name = str(given.pop("kind", ""))
    if name.isdecimal():
        name, given = "status", {"code": name, **given}
    if name == "error200":
        name, given = "wrapped", {"status": 200, **given}
    if name not in KINDS:
        raise ValueError(f"fault {name!r}: no such kind; there are {', '.join(KINDS)}")
    settings = dict(KINDS[name].settings)
    when: dict[str, Any] = {key: default for key, (default, _) in WHEN.items()}
    for key, value in given.items():
        if key in settings:
            settings[key] = _typed(name, key, value, _type_of(settings[key], str))
        elif key in when:
            when[key] = _typed(name, key, value, _WHEN_TYPES.get(key, _type_of(when[key], int)))
        else:
            raise ValueError(f"fault {name!r}: no setting {key!r}")
    _check(name, settings)
    return Rule(index, name, when, settings)


def _check(name: str, settings: Mapping[str, Any]) -> None:
    if settings.get("form") not in (None, *FORMS) and name == "wrapped":
        raise ValueError(f"fault {name!r}: form must be one of {', '.join(FORMS)}")
    meaning = settings.get("meaning")
    if meaning is not None and meaning not in MEANINGS.get(settings["code"], {}):
        raise ValueError(f"fault {name!r}: {settings['code']} has no meaning {meaning!r}")


def _type_of(default: Setting, otherwise: type) -> type:
    return otherwise if default is None else type(default)


def _typed(name: str, key: str, value: object, kind: type) -> Setting:
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        return kind(value)  # type: ignore[no-any-return]  # str, int or float
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"fault {name!r}: {key}={value!r} is not a {kind.__name__}") from error
