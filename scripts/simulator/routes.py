"""The routes, and the way of every call through the server."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

from . import chat, control_api, other_endpoints
from .call_record import Call
from .exact_json import dumps
from .exchange import Exchange, Spent
from .faults import Plot
from .refusals import HTML, RefusedError, Reply, refusal
from .scripted import PAGE, scripted, seconds_before
from .simulator_state import World
from .wire_faults import PLAYS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Prepare = Callable[[World, Call, Plot], Exchange]


def make_app(world: World) -> web.Application:
    """The whole server as one application."""
    app = web.Application(client_max_size=world.options.max_body)
    at = world.options.prefix
    for path in set(other_endpoints.PATHS) - set(world.options.without):
        app.router.add_post(f"{at}/{path}", _booked(world, "chat", chat.prepare))
    app.router.add_get(f"{at}/models", _booked(world, "models", _money_free(_models)))
    app.router.add_get(
        f"{at}/models/{{author}}/{{slug}}/endpoints",
        _booked(world, "endpoints", _money_free(_endpoints)),
    )
    app.router.add_get(f"{at}/generation", _booked(world, "generation", _with_key(_generation)))
    app.router.add_get(f"{at}/credits", _booked(world, "credits", _with_key(_credits)))
    app.router.add_get(f"{at}/key", _booked(world, "key", _with_key(_key)))
    app.router.add_get("/_sim/stats", lambda _: control_api.stats(world))
    app.router.add_post("/_sim/{name}", lambda request: control_api.change(world, request))
    app.router.add_route("*", f"{at}/{{rest:.*}}", _booked(world, "unknown", _unknown))
    # Outside the prefix lives the web site: a wrong base URL gets a page, not an error.
    app.router.add_route("*", "/{rest:.*}", _booked(world, "site", _site))
    return app


def _booked(world: World, route: str, prepare: Prepare) -> Handler:
    """A handler that numbers the call, plays what is to be played, and books both ends."""

    async def handle(request: web.Request) -> web.StreamResponse:
        raw, too_large = await _read(request)
        call = world.receive(request, route, raw)
        if route == "chat":
            chat.look_into(call)
        world.note_received(call)
        exchange: Exchange | None = None
        try:
            plot = world.plot(call)
            exchange = _prepared(prepare, world, call, plot, too_large=too_large)
            return await _play(exchange, plot)
        except ConnectionError:
            call.delivery = "client_gone"
            return Spent()
        finally:
            _settle(world, call, exchange)
            world.note_finished(call)

    return handle


async def _read(request: web.Request) -> tuple[bytes, bool]:
    try:
        return await request.read(), False
    except web.HTTPRequestEntityTooLarge:
        return b"", True


def _prepared(
    prepare: Prepare, world: World, call: Call, plot: Plot, *, too_large: bool
) -> Exchange:
    if too_large:
        return Exchange(call, refusal(413))
    try:
        return prepare(world, call, plot)
    except RefusedError as refused:
        return Exchange(call, refused.reply)


async def _play(exchange: Exchange, plot: Plot) -> web.StreamResponse:
    if plot.wire:
        return await PLAYS[plot.wire.kind](exchange, plot.wire.settings)
    return await exchange.play()


def _settle(world: World, call: Call, exchange: Exchange | None) -> None:
    """Charge for work that was broken off, by the client or by our own end, if that is the rule."""
    if exchange and call.place and world.options.bill_aborted:
        exchange.finish()


def _with_key(make: Callable[[World, Call], Reply]) -> Prepare:
    """For a path that needs a key."""

    def prepare(world: World, call: Call, plot: Plot) -> Exchange:
        world.account.check_key(call.key)
        return _money_free(make)(world, call, plot)

    return prepare


def _money_free(make: Callable[[World, Call], Reply]) -> Prepare:
    """For a path that costs nothing; a scripted refusal takes its place."""

    def prepare(world: World, call: Call, plot: Plot) -> Exchange:
        if plot.refusal:
            return Exchange(call, scripted(plot.refusal), seconds=seconds_before(plot.refusal) or 0)
        return Exchange(call, make(world, call))

    return prepare


def _data(value: object) -> Reply:
    return Reply(200, dumps({"data": value}))


def _models(world: World, _: Call) -> Reply:
    return _data(world.catalogue.listed())


def _endpoints(world: World, call: Call) -> Reply:
    names = call.request.match_info
    model = world.catalogue.find(f"{names['author']}/{names['slug']}")
    return _data(model.listed_with_providers()) if model else refusal(404, "model")


def _credits(world: World, _: Call) -> Reply:
    return _data(world.account.credits())


def _key(world: World, call: Call) -> Reply:
    return _data(world.account.key_info(call.key or ""))


def _generation(world: World, call: Call) -> Reply:
    record = world.lookup(call.request.query.get("id", ""))
    if record is None or record["key"] != call.key:
        return refusal(404, text="Generation not found")
    return _data(_generation_data(record))


def _generation_data(record: dict[str, Any]) -> dict[str, object]:
    return {
        "id": record["id"],
        "model": record["model"],
        "provider_name": record["provider"],
        "created_at": record["at"],
        "total_cost": Decimal(record["billed"]),
        "usage": Decimal(record["billed"]),
        "finish_reason": record["finish_reason"],
        "cancelled": record["delivery"] == "client_gone",
        "streamed": False,
        "tokens_prompt": record["prompt_tokens"],
        "tokens_completion": record["completion_tokens"],
        "native_tokens_prompt": record["prompt_tokens"],
        "native_tokens_completion": record["completion_tokens"],
        "native_tokens_reasoning": record["reasoning_tokens"],
        "native_tokens_cached": record["cached_tokens"],
    }


def _unknown(_world: World, call: Call, _plot: Plot) -> Exchange:
    return Exchange(call, Reply(404, PAGE, content_type=HTML))


def _site(_world: World, call: Call, _plot: Plot) -> Exchange:
    return Exchange(call, Reply(200, PAGE, content_type=HTML))
