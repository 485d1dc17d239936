"""The control door for tests, under ``/_sim/``: look at the server, and change it while it runs.

    GET  stats
    POST limits   {"rpm": 60, "max_in_flight": 5, …}   those left out stay
    POST faults   ["429:share=0.1", {"kind": "cut"}]   replaces all rules
    POST balance  {"balance": "12.5"} or {"balance": null}
    POST keys     {"allow": ["key", …] or null, "limits": {"key": "100"}}
    POST prices   {"factor": "3"}                      of the whole catalogue
    POST latency  {"latency": "constant:0.2"}

Each POST answers with the stats.
"""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from aiohttp import web

from .exact_json import dumps
from .faults import Script, parse_rules
from .latency import parse_latency
from .limits import Limits
from .simulator_state import World


async def stats(world: World) -> web.Response:
    """The counters, as JSON."""
    world.flush()
    return web.Response(body=dumps(world.stats()), content_type="application/json")


async def change(world: World, request: web.Request) -> web.Response:
    """Do what the POST asks for; 400 with the reason when it cannot be done."""
    name = request.match_info["name"]
    if name not in _CHANGES:
        raise web.HTTPNotFound(text=f"no such control: {name}; there are {', '.join(_CHANGES)}")
    try:
        _CHANGES[name](world, json.loads(await request.read()))
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise web.HTTPBadRequest(text=f"{name}: {error!r}") from error
    return await stats(world)


def _limits(world: World, wish: dict[str, Any]) -> None:
    unknown = set(wish) - {field.name for field in fields(Limits)}
    if unknown:
        raise ValueError(f"no such limits: {', '.join(sorted(unknown))}")
    if wish.get("in_flight_budget") is not None:
        wish["in_flight_budget"] = Decimal(str(wish["in_flight_budget"]))
    world.gate.limits = replace(world.gate.limits, **wish)


def _faults(world: World, wish: list[Any]) -> None:
    world.script = Script(parse_rules(wish), world.options.seed)


def _balance(world: World, wish: dict[str, Any]) -> None:
    balance = wish["balance"]
    world.account.balance = None if balance is None else Decimal(str(balance))


def _keys(world: World, wish: dict[str, Any]) -> None:
    if "allow" in wish:
        world.account.allow(wish["allow"])
    world.account.limit({key: Decimal(str(it)) for key, it in wish.get("limits", {}).items()})


def _prices(world: World, wish: dict[str, Any]) -> None:
    world.catalogue.scale(Decimal(str(wish["factor"])))


def _latency(world: World, wish: dict[str, Any]) -> None:
    world.latency = parse_latency(wish["latency"])


_CHANGES: dict[str, Callable[[World, Any], None]] = {
    "limits": _limits,
    "faults": _faults,
    "balance": _balance,
    "keys": _keys,
    "prices": _prices,
    "latency": _latency,
}
