"""What a program asked for when it made a batch, checked as a whole; pure.

What OpenAI's API has no field for stands in metadata as `nightshift_*`, or in headers
`X-Nightshift-*`, which win.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from batch.api.api_errors import ApiError, invalid, missing, wrong_type, wrong_value
from jobs.money import parse_amount
from jobs.priority import parse_share
from jobs.request_kinds import KINDS
from jobs.window import parse_window

OWN = "nightshift_"
HEADER = "x-nightshift-"
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])")
_HOUR_S = 3600
_LONGEST_WINDOW_S = 30 * 24 * _HOUR_S
_LEAST_EXPIRY_S, _MOST_EXPIRY_S = _HOUR_S, 30 * 24 * _HOUR_S


class Wishes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What goes beyond OpenAI's API. `window`: the hours in which calls are made."""

    budget_rub: Decimal | None = None
    completion_window: str | None = None
    name: str | None = None
    priority: float | None = None
    webhook: str | None = None
    window: str | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A whole request for a batch; `window_s` is the time it may take."""

    input_file_id: str
    endpoint: str
    completion_window: str
    window_s: int
    metadata: dict[str, str] | None
    output_expires_s: int | None
    wishes: Wishes

    @property
    def digest(self) -> str:
        """Tells requests that ask for the same from all others."""
        facts = [
            *(self.input_file_id, self.endpoint, self.completion_window),
            *(self.metadata or {}, self.output_expires_s, pack(self.wishes)),
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def pack(wishes: Wishes) -> str:
    """As JSON."""
    return msgspec.json.encode(wishes).decode()


def unpack(text: str) -> Wishes:
    """From JSON."""
    return msgspec.json.decode(text, type=Wishes)


def read_asked(body: object, headers: Mapping[str, str]) -> Asked:
    """The request in a body of JSON; `ApiError` with OpenAI's words for what is wrong with it."""
    if not isinstance(body, dict):
        raise invalid("The request body must be a JSON object.")
    metadata = _metadata(body.get("metadata"))
    wishes = _wishes(metadata or {}, headers)
    endpoint = _text(body, "endpoint")
    if full_url(endpoint) not in KINDS:
        raise wrong_value("endpoint", endpoint, ", ".join(f"'{url}'" for url in KINDS))
    window = _text(body, "completion_window")
    return Asked(
        input_file_id=_text(body, "input_file_id"),
        endpoint=endpoint,
        completion_window=window,
        window_s=window_seconds(wishes.completion_window or window),
        metadata=metadata,
        output_expires_s=read_expiry(body.get("output_expires_after"), "output_expires_after"),
        wishes=wishes,
    )


def full_url(url: str) -> str:
    """The address of a kind of request; Azure's clients leave the version out."""
    return url if url.startswith("/v1/") else f"/v1{url}"


def window_seconds(text: str) -> int:
    """How long `24h`, `8h` or `7d` are."""
    match = _WINDOW.fullmatch(text)
    seconds = int(match[1]) * _HOUR_S * (24 if match[2] == "d" else 1) if match else 0
    if not 0 < seconds <= _LONGEST_WINDOW_S:
        told = "'24h', or another number of hours or days up to '30d'"
        raise wrong_value("completion_window", text, told)
    return seconds


def read_expiry(value: object, param: str) -> int | None:
    """Seconds from `{"anchor": "created_at", "seconds": …}`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    for key in ("anchor", "seconds"):
        if value.get(key) is None:
            raise missing(f"{param}.{key}")
    if value["anchor"] != "created_at":
        raise wrong_value(f"{param}.anchor", value["anchor"], "'created_at'")
    seconds = value["seconds"]
    if type(seconds) is not int:
        raise wrong_type(f"{param}.seconds", "an integer", seconds)
    check_range(f"{param}.seconds", seconds, _LEAST_EXPIRY_S, _MOST_EXPIRY_S)
    return seconds


def check_range(param: str, value: int, least: int, most: int) -> None:
    """`ApiError` for a number that is too small or too large."""
    how = "below_min" if value < least else "above_max" if value > most else ""
    if how:
        bound = f">= {least}" if value < least else f"<= {most}"
        told = f"Invalid '{param}': integer {how.replace('_', ' ')} value. Expected a value"
        raise invalid(f"{told} {bound}, but got {value} instead.", param, f"integer_{how}_value")


def _text(body: dict[str, Any], param: str) -> str:
    value = body.get(param)
    if value is None:
        raise missing(param)
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if not value:
        raise invalid(f"Invalid '{param}': it must not be empty.", param, "invalid_value")
    return value


def _metadata(value: object) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong_type("metadata", "an object", value)
    if len(value) > _MOST_PAIRS:
        raise invalid(
            "Invalid 'metadata': too many properties. Expected an object with at most"
            f" {_MOST_PAIRS} properties, but got an object with {len(value)} properties instead.",
            "metadata",
            "object_above_max_properties",
        )
    for key, text in value.items():
        param = f"metadata.{key}"
        if not isinstance(text, str):
            raise wrong_type(param, "a string", text)
        if len(text) > _LONGEST_VALUE or len(key) > _LONGEST_KEY:
            most = _LONGEST_VALUE if len(text) > _LONGEST_VALUE else _LONGEST_KEY
            raise invalid(
                f"Invalid '{param[:100]}': string too long. Expected a string with maximum length"
                f" {most}.",
                param[:100],
                "string_above_max_length",
            )
    return value


def _wishes(metadata: Mapping[str, str], headers: Mapping[str, str]) -> Wishes:
    """Misspelt ones are refused: one of them may be meant as a cap."""
    told = {
        **{key: text for key, text in metadata.items() if key.startswith(OWN)},
        **{
            OWN + name.lower().removeprefix(HEADER).replace("-", "_"): text
            for name, text in headers.items()
            if name.lower().startswith(HEADER)
        },
    }
    known = Wishes.__struct_fields__
    for key in told:
        if key.removeprefix(OWN) not in known:
            supported = ", ".join(f"'{OWN}{name}'" for name in known)
            raise wrong_value(f"metadata.{key}", key, supported)
    return Wishes(**{key.removeprefix(OWN): _wish(key, text) for key, text in told.items()})


def _wish(key: str, text: str) -> Any:
    try:
        match key.removeprefix(OWN):
            case "budget_rub":
                return parse_amount(text.strip())
            case "priority":
                return parse_share(text)
            case "window":
                return str(parse_window(text))
            case "completion_window":
                window_seconds(text)
    except ApiError:
        raise
    except (ValueError, ArithmeticError) as error:
        raise invalid(f"Invalid '{key}': {error}.", f"metadata.{key}", "invalid_value") from None
    return text
