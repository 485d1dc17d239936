"""The life of a chat call: checked, admitted, worked on, charged, answered."""

import hashlib
import math
import time
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import Any

from . import other_endpoints
from .answer_faults import price_factor, spoil
from .answer_text import Answer, compose
from .body import Chat, read_chat
from .book import body_hash
from .call_cost import Tokens, cost_of, prices_for
from .call_record import Call, Generation, Place
from .catalogue import Model, Provider
from .exact_json import EXACT, dumps
from .exchange import Exchange
from .faults import Plot, Rule
from .limits import ExceededError
from .refusals import RefusedError, Reply, now_utc, refusal
from .scripted import scripted, seconds_before
from .seeded_chance import dice, draw
from .simulator_state import World
from .tokens import prompt_tokens

# What a dollar is taken to cost for the dollar figure that nobody may add to roubles.
ROUBLES_PER_DOLLAR = Decimal(80)
# Bytes of a prompt's beginning from which on it is kept in a cache.
PREFIX = 4096
# The answer's size that an in-flight budget reckons with when nothing bounds it, in tokens.
UNBOUNDED = 4096


def look_into(call: Call) -> None:
    """Read the body as far as the book and the rules need it; its faults are told later."""
    try:
        call.chat = read_chat(call.raw, other_endpoints.form_of(call.request.path))
    except RefusedError as refused:
        call.chat = refused
        return
    call.model = call.chat.model
    call.messages_hash = body_hash(call.chat.canonical)


def prepare(world: World, call: Call, plot: Plot) -> Exchange:
    """What to send for a chat call; `RefusedError` when it is not admitted."""
    world.account.check_key(call.key)
    chat = _chat_of(call)
    if plot.refusal and not plot.refusal.bills:
        return _refuse(world, call, plot.refusal)
    model = _model(world, chat)
    provider = _provider(world, call, chat, model)
    prompt = world.options.hidden_tokens + prompt_tokens(chat.messages, chat.fields)
    if model.context_length is not None and prompt > model.context_length:
        raise RefusedError(refusal(400, "context"))
    world.account.check_money(call.key or "")
    _admit(world, call, _bound(chat, provider, prompt), prompt)
    if any(rule.kind == "same_id" for rule in plot.answer):
        call.id = f"gen-same-{call.digest.hex()[:20]}"
    prefix = _prefix(chat)
    known = prefix in world.prefixes
    work = _Work(world, call, chat, model, provider, prompt, plot, prefix, known)
    return _refuse(world, call, plot.refusal, work) if plot.refusal else work.exchange()


@dataclass(frozen=True, slots=True)
class _Work:
    """The model at work on one call."""

    world: World
    call: Call
    chat: Chat
    model: Model
    provider: Provider
    prompt_tokens: int
    plot: Plot
    prefix: bytes = b""
    """The beginning of a long prompt: what providers keep in a cache."""
    is_known: bool = False

    def exchange(self) -> Exchange:
        world, call = self.world, self.call
        lane = call.place.lane if call.place else ("", "")
        headers = {"X-Generation-Id": call.id, **world.gate.headers(lane)}
        return Exchange(
            call,
            Reply(200, b"", headers),
            finish=self.finish,
            seconds=_working_time(world, call),
            keepalive=world.options.keepalive,
            abortable=not world.options.bill_aborted,
        )

    def finish(self) -> bytes:
        """End the work: charge for it, and give the body of the answer."""
        answer, generation = self.generate()
        document = self._document(answer, generation)
        spoil(document, self.plot.answer)
        rng = dice(self.world.options.seed, self.call.digest, 0, "form")
        return dumps(other_endpoints.answer(self.chat.form, document, self.chat.asked, rng))

    def generate(self) -> tuple[Answer, Generation]:
        """Make the answer, and charge for it."""
        seed = self.world.options.seed
        rng = dice(seed, self.call.digest, 0, "answer")
        answer = compose(self.chat, self.world.options.style, rng, reasons=self.model.reasons)
        tokens = self._tokens(answer)
        cost = cost_of(tokens, prices_for(self.provider, tokens.prompt, now_utc()), self._factor())
        generation = Generation(
            self.model.id, self.provider.name, answer.finish_reason, tokens, cost
        )
        self._charge(generation)
        if self.prefix:
            self.world.prefixes.add(self.prefix)
        return answer, generation

    def _charge(self, generation: Generation) -> None:
        world, call = self.world, self.call
        if not _bills(self.plot) or call.id in world.shared_ids:
            return
        if call.id.startswith("gen-same-"):
            world.shared_ids[call.id] = call.number
        call.generation = generation
        call.billed = generation.cost
        world.account.charge(call.key or "", generation.cost)

    def _factor(self) -> Decimal:
        return self.model.lanes.get(self._lane, Decimal(1)) * price_factor(self.plot.answer)

    @property
    def _lane(self) -> str:
        return self.model.lane(self.chat.fields.get("service_tier"), self.provider.name)

    def _tokens(self, answer: Answer) -> Tokens:
        caches = "input_cache_read" in self.provider.prices
        cached = int(self.prompt_tokens * self._cached_share()) if caches else 0
        return Tokens(
            prompt=self.prompt_tokens,
            completion=answer.completion_tokens * self.chat.answers,
            cached=cached,
            reasoning=answer.reasoning_tokens * self.chat.answers,
        )

    def _cached_share(self) -> float:
        if not self.world.options.cache_prefixes:
            return self.world.options.cached_share
        return PREFIX / len(self.chat.canonical) if self.is_known else 0.0

    def _document(self, answer: Answer, generation: Generation) -> dict[str, Any]:
        document = {
            "id": self.call.id,
            "provider": generation.provider,
            "model": generation.model,
            "object": "chat.completion",
            "created": int(time.time()),
            "choices": [_choice(answer)],
            "usage": self._usage(generation),
        }
        if self.chat.fields.get("service_tier"):
            document["service_tier"] = self._lane
        if self._lot("error null") < self.world.options.null_error_share:
            document["error"] = None
        return document

    def _usage(self, generation: Generation) -> dict[str, Any]:
        usage = usage_of(generation)
        share = self.world.options.null_cost_share
        if generation.finish_reason == "length" and self._lot("cost null") < share:
            usage["cost"] = None
        return usage

    def _lot(self, what: str) -> float:
        return draw(self.world.options.seed, self.call.digest, self.call.attempt, what)


def _prefix(chat: Chat) -> bytes:
    """Bytes that stand for the beginning of a prompt; none for a short one."""
    if len(chat.canonical) < PREFIX:
        return b""
    head = chat.canonical[:PREFIX]
    return hashlib.sha256(chat.model.encode() + b"\0" + head).digest()


def usage_of(generation: Generation) -> dict[str, Any]:
    """The block ``usage``: roubles under ``cost``, dollars where nobody should look for money."""
    tokens, cost = generation.tokens, generation.cost
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "cost": cost,
        "is_byok": False,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cached,
            "cache_write_tokens": tokens.written,
        },
        "cost_details": {"upstream_inference_cost": round(cost / ROUBLES_PER_DOLLAR, 12)},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }


def _refuse(world: World, call: Call, rule: Rule, work: _Work | None = None) -> Exchange:
    """A scripted refusal; with `work`, one that is charged for all the same."""
    reply = scripted(rule)
    if work or reply.status == 200:
        reply = replace(reply, headers={**reply.headers, "X-Generation-Id": call.id})
    wait = seconds_before(rule)

    def finish() -> bytes:
        if work is None:
            return reply.body
        _, generation = work.generate()
        if not rule.settings.get("cost"):
            return reply.body
        # The error is an object or a string; either way the usage stands beside it.
        return reply.body[:-1] + b',"usage":' + dumps(usage_of(generation)) + b"}"

    return Exchange(
        call,
        reply,
        finish=finish,
        seconds=_working_time(world, call) if wait is None else wait,
        keepalive=world.options.keepalive,
    )


def _bills(plot: Plot) -> bool:
    rules = [rule for rule in (plot.refusal, plot.wire, *plot.answer) if rule]
    return all(rule.bills for rule in rules)


def _working_time(world: World, call: Call) -> float:
    return world.latency(dice(world.options.seed, call.digest, call.attempt, "latency"))


def _chat_of(call: Call) -> Chat:
    if isinstance(call.chat, Chat):
        return call.chat
    raise call.chat or RefusedError(refusal(400))


def _model(world: World, chat: Chat) -> Model:
    model = world.catalogue.find(chat.model)
    if model is None:
        raise RefusedError(refusal(400, "model", text=f"{chat.model} is not a valid model ID"))
    return model


def _provider(world: World, call: Call, chat: Chat, model: Model) -> Provider:
    """Who serves the call: the one wished for, else the default, now and then another."""
    wished, others_may = chat.preferred_providers()
    by_name = {each.name.lower(): each for each in model.providers}
    for name in wished:
        if name in by_name:
            return by_name[name]
    if not others_may:
        raise RefusedError(refusal(404, "endpoint"))
    share = world.options.other_provider_share
    if draw(world.options.seed, call.digest, call.attempt, "provider") < share:
        return model.providers[-1]
    return model.providers[0]


def _bound(chat: Chat, provider: Provider, prompt: int) -> Decimal:
    most = (chat.max_tokens or provider.max_completion_tokens or UNBOUNDED) * chat.answers
    return cost_of(Tokens(prompt, most), prices_for(provider, prompt, now_utc()))


def _admit(world: World, call: Call, bound: Decimal, prompt: int) -> None:
    lane = (call.key or "", call.model or "")
    try:
        with localcontext(EXACT):
            world.gate.enter(lane, prompt, bound)
    except ExceededError as exceeded:
        raise RefusedError(_too_many(world, lane, exceeded)) from exceeded
    call.place = Place(lane, bound)


def _too_many(world: World, lane: tuple[str, str], exceeded: ExceededError) -> Reply:
    headers = world.gate.headers(lane)
    if world.gate.limits.retry_after:
        headers["Retry-After"] = str(math.ceil(exceeded.wait))
    if exceeded.limit == "in_flight_budget":
        return refusal(402, "in_flight", headers=headers)
    return refusal(429, "rate", text=f"Rate limit exceeded: {exceeded.limit}", headers=headers)


def _choice(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.content, "refusal": None}
    if answer.reasoning:
        message["reasoning"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = answer.tool_calls
    return {
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "native_finish_reason": answer.finish_reason,
        "index": 0,
        "message": message,
    }
