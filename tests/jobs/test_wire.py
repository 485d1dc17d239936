"""What travels through Redis: it comes out as it went in, and nothing else comes out at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from jobs import wire
from jobs.budget import Amount
from jobs.chunk import DONE, MOST_MODELS, ChunkClosed, Payload, ReturnReason, Terms, Work
from jobs.errors import BadMessage
from jobs.outcome import Billing
from jobs.pause_reasons import PauseReason
from jobs.result import Call, Result, ResultState
from jobs.usage import Usage
from jobs.wire import (
    Delivery,
    Found,
    pack,
    pack_bodies,
    pack_delivery,
    pack_payload,
    unpack,
    unpack_bodies,
    unpack_delivery,
    unpack_payload,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

JOB = "job_01k1abcdefghjkmnpqrstvwxyz"
COUNTS = st.integers(0, 2**40)
SECONDS = st.floats(0, 1e12)
LATENCIES = st.floats(0, 1e6)
RUB = st.decimals(0, Decimal("1e15"), places=13)
TEXTS = st.text(max_size=20)
TRIPLES = st.lists(st.tuples(COUNTS, COUNTS, COUNTS), max_size=4)
AMOUNTS = st.builds(Amount, st.one_of(st.none(), RUB), st.one_of(st.none(), COUNTS))
USAGES = st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
REASONS = st.builds(ReturnReason, TEXTS, TEXTS, st.one_of(st.none(), st.sampled_from(PauseReason)))


@st.composite
def calls(draw: st.DrawFn) -> Call:
    billing = draw(st.sampled_from(Billing))
    return Call(
        *(draw(TEXTS), draw(COUNTS), draw(COUNTS), draw(COUNTS), draw(SECONDS), draw(LATENCIES)),
        *(draw(st.one_of(st.none(), st.integers(100, 599))), draw(TEXTS), billing),
        cost=draw(RUB) if billing is Billing.KNOWN else None,
        bound=draw(st.one_of(st.none(), RUB)),
        bound_tokens=draw(COUNTS),
        usage=draw(st.one_of(st.none(), USAGES)),
        generation_id=draw(TEXTS),
    )


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    bodies = draw(st.lists(st.binary(max_size=50), max_size=4))
    results = st.builds(
        Result,
        *(COUNTS, st.sampled_from(ResultState), TEXTS, TEXTS, st.one_of(st.none(), COUNTS)),
        *(COUNTS, TEXTS, LATENCIES, SECONDS),
        flags=st.lists(TEXTS, max_size=2).map(tuple),
        body=st.integers(-1, len(bodies) - 1),
    )
    closings = st.builds(ChunkClosed, COUNTS, REASONS, TRIPLES, st.dictionaries(TEXTS, COUNTS))
    found = st.builds(Found, COUNTS, TEXTS, st.one_of(st.none(), RUB))
    return Delivery(
        *("0a1b2c3d4e", draw(COUNTS), JOB, draw(st.lists(calls(), max_size=3))),
        *(draw(st.lists(results, max_size=3)), draw(st.lists(closings, max_size=2))),
        draw(st.lists(found, max_size=2)),
        pack_bodies(bodies),
    )


PAYLOADS = st.builds(
    Payload,
    *(
        st.just(JOB),
        TEXTS,
        COUNTS,
        TEXTS,
        TEXTS,
        st.just(Terms()),
        AMOUNTS,
        st.just(("a/m", "b/n")),
    ),
    st.lists(
        st.builds(
            Work,
            *(COUNTS, st.integers(0, 1), st.binary(max_size=40), st.one_of(st.none(), RUB), COUNTS),
        ),
        max_size=4,
    ),
)


# ── What is ours comes back ──────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=2000))
def test_bytes_come_out_as_they_went_in(data: bytes) -> None:
    assert unpack(pack(data)) == data


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_answers_come_out_in_their_order(bodies: list[bytes]) -> None:
    assert unpack_bodies(pack_bodies(bodies)) == bodies


@given(deliveries())
def test_a_delivery_comes_out_as_it_went_in(delivery: Delivery) -> None:
    assert unpack_delivery(pack_delivery(delivery)) == delivery


@given(PAYLOADS)
def test_a_payload_comes_out_as_it_went_in(payload: Payload) -> None:
    assert unpack_payload(pack_payload(payload)) == payload


# ── Versions (law L15) ───────────────────────────────────────────────────────────────────────────


def without_version(now: type[msgspec.Struct], *, as_array: bool) -> type[msgspec.Struct]:
    """The form that the release before knew: it had no number."""
    known = [(each.encode_name, each.type) for each in msgspec.structs.fields(now)]
    told = [each for each in known if each[0] != "version"]
    return msgspec.defstruct("Before", told, array_like=as_array)


@given(deliveries())
def test_the_release_before_reads_a_delivery(delivery: Delivery) -> None:
    told = structs.replace(delivery, version=wire.VERSION)

    read = msgspec.msgpack.decode(
        pack_delivery(told), type=without_version(Delivery, as_array=True)
    )

    assert structs.astuple(read) == structs.astuple(delivery)[:-1]


@given(PAYLOADS)
def test_the_release_before_reads_a_payload(payload: Payload) -> None:
    told = structs.replace(payload, version=wire.VERSION)

    read = msgspec.msgpack.decode(
        unpack(pack_payload(told)), type=without_version(Payload, as_array=False)
    )

    assert structs.asdict(read) == {
        name: each for name, each in structs.asdict(payload).items() if name != "version"
    }


def test_what_is_newer_than_its_reader_is_let_lie() -> None:
    newer = wire.VERSION + 1
    payload = Payload(JOB, "", 1, "", "", Terms(), Amount(), (), [], version=newer)
    delivery = Delivery("0" * 16, 1, JOB, [], [], [], [], version=newer)

    with pytest.raises(BadMessage, match="newer version"):
        unpack_payload(pack_payload(payload))
    with pytest.raises(BadMessage, match="newer version"):
        unpack_delivery(pack_delivery(delivery))


# ── What is not ours does not (FAULTS R17, R19) ──────────────────────────────────────────────────

UNPACKERS: list[Callable[[bytes], object]] = [
    *(unpack, unpack_payload, unpack_bodies, unpack_delivery)
]


def names(unpacker: Callable[[bytes], object]) -> str:
    return unpacker.__name__


@pytest.mark.parametrize("unpacker", UNPACKERS, ids=names)
@given(data=st.binary(min_size=1, max_size=300))
def test_garbage_is_a_bad_message_and_nothing_else(
    unpacker: Callable[[bytes], object], data: bytes
) -> None:
    with pytest.raises(BadMessage):
        unpacker(data)


@pytest.mark.parametrize("unpacker", UNPACKERS[1:], ids=names)
@given(data=st.recursive(st.one_of(st.none(), st.integers(0, 9), st.text(max_size=3)), st.lists))
def test_msgpack_of_another_form_is_a_bad_message(
    unpacker: Callable[[bytes], object], data: object
) -> None:
    encoded = msgspec.msgpack.encode({"something": data})
    with pytest.raises(BadMessage):
        unpacker(pack(encoded))
    with pytest.raises(BadMessage):
        unpacker(encoded)


@given(deliveries(), st.data())
def test_a_delivery_with_a_changed_byte_is_read_or_refused_but_raises_nothing_else(
    delivery: Delivery, data: st.DataObject
) -> None:
    packed = bytearray(pack_delivery(delivery))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))

    with suppress(BadMessage):
        unpack_delivery(bytes(packed))


@given(st.binary(min_size=20, max_size=500), st.data())
def test_a_flipped_bit_of_a_compressed_message_is_found_f11(
    body: bytes, data: st.DataObject
) -> None:
    packed = bytearray(pack(body))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    # A bit of the head may mean nothing.
    with suppress(BadMessage):
        assert unpack(bytes(packed)) == body


@pytest.mark.parametrize(
    "tail", [pack(b"x"), b"\x50\x2a\x4d\x18\x02\x00\x00\x00ab", b"\x00"], ids=["frame", "skip", "0"]
)
def test_bytes_behind_a_message_are_refused(tail: bytes) -> None:
    with pytest.raises(BadMessage):
        unpack(pack(b"body") + tail)


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_cut_message_is_refused(cut: int) -> None:
    with pytest.raises(BadMessage):
        unpack(pack(b"a body that is long enough" * 10)[:-cut])


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(BadMessage, match="too large"):
        unpack(pack(bytes(2**20)), 2**20 - 1)
    with pytest.raises(BadMessage, match="too large"):
        unpack_payload(pack(bytes(wire.LARGEST_PAYLOAD + 1)))
    with pytest.raises(BadMessage, match="too large"):
        unpack_bodies(pack(bytes(wire.LARGEST + 1)))
    with pytest.raises(BadMessage, match="too large"):
        unpack_delivery(bytes(wire.LARGEST + 1))


def test_a_payload_for_thousands_of_models_is_refused() -> None:
    models = tuple(f"m/{number}" for number in range(MOST_MODELS + 1))

    with pytest.raises(BadMessage, match="too many models"):
        unpack_payload(pack_payload(Payload(JOB, "", 1, "", "", Terms(), Amount(), models, [])))


def test_a_bomb_behind_a_small_frame_is_not_unpacked() -> None:
    with pytest.raises(BadMessage):
        unpack(pack(b"small") + pack(bytes(2**24)))


def test_a_message_that_does_not_tell_its_size_is_refused() -> None:
    stream = zstd.ZstdCompressor()
    data = stream.compress(b"x" * 100) + stream.flush()
    assert zstd.get_frame_info(data).decompressed_size is None

    with pytest.raises(BadMessage, match="does not declare its size"):
        unpack(data)


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1x"], ids=["lists", "maps"])
def test_nesting_without_end_is_a_bad_message_i11(opening: bytes) -> None:
    deep = opening * 100_000 + b"\xc0"
    for data in (deep, b"\x81\xa1z" + deep, b"\x98" + deep):
        with pytest.raises(BadMessage):
            unpack_payload(pack(data))
        with pytest.raises(BadMessage):
            unpack_delivery(data)


# ── Nor absurd figures, which would stop whoever adds them up ────────────────────────────────────

CALL: dict[str, Any] = {
    "id": "box-1",
    "ordinal": 0,
    "chunk": 1,
    "attempt": 1,
    "sent_at": 1.0,
    "latency_s": 1.0,
    "status": 200,
    "code": "",
    "billing": Billing.KNOWN,
    "cost": Decimal("0.5"),
    "bound": Decimal(1),
    "bound_tokens": 10,
    "usage": Usage(1, 1),
}
RESULT: dict[str, Any] = {
    "ordinal": 0,
    "state": ResultState.COMPLETED,
    "code": "",
    "message": "",
    "status": 200,
    "attempts": 1,
    "call": "box-1",
    "latency_s": 1.0,
    "finished_at": 2.0,
    "body": 0,
}


def delivered(
    call: dict[str, Any] | None = None,
    result: dict[str, Any] | None = None,
    found: Found | None = None,
    closed: ChunkClosed | None = None,
    outbox: str = "box",
    job: str = JOB,
) -> bytes:
    """A delivery as anybody with the password of Redis could write it."""
    return pack_delivery(
        Delivery(
            *(outbox, 1, job, [Call(**{**CALL, **(call or {})})]),
            [Result(**{**RESULT, **(result or {})})],
            *([closed] if closed else [], [found] if found else [], pack_bodies([b"{}"])),
        )
    )


def test_the_model_of_the_following_deliveries_is_taken() -> None:
    assert unpack_delivery(delivered()).calls[0].cost == Decimal("0.5")


ABSURD = ["-1", "-0", "NaN", "sNaN", "Infinity", "1e16", "1e999999", "1e-31", "0e-999999"]


@pytest.mark.parametrize("text", ABSURD)
def test_an_absurd_amount_is_refused_wherever_it_stands_e26(text: str) -> None:
    amount = Decimal(text)
    work = Work(0, 0, b"{}", amount, 1)
    for data in (
        delivered({"cost": amount}),
        delivered({"bound": amount}),
        delivered(found=Found(0, "box-1", amount)),
    ):
        with pytest.raises(BadMessage):
            unpack_delivery(data)
    for payload in (
        Payload(JOB, "", 1, "", "", Terms(), Amount(amount), ("m",), []),
        Payload(JOB, "", 1, "", "", Terms(), Amount(), ("m",), [work]),
    ):
        with pytest.raises(BadMessage):
            unpack_payload(pack_payload(payload))


@pytest.mark.parametrize("number", [-1, 2**53 + 1, 2**64 - 1])
@pytest.mark.parametrize("field", ["ordinal", "chunk", "attempt", "status", "bound_tokens"])
def test_an_absurd_count_is_refused(field: str, number: int) -> None:
    with pytest.raises(BadMessage):
        unpack_delivery(delivered({field: number}))


@pytest.mark.parametrize("number", [-1, 2**53 + 1])
def test_absurd_tokens_and_closings_are_refused(number: int) -> None:
    for data in (
        delivered({"usage": Usage(number, 1)}),
        delivered({"usage": Usage(1, 1, reasoning=number)}),
        delivered(found=Found(0, "box-1", Decimal(1), Usage(number, 1))),
        delivered(closed=ChunkClosed(number, DONE, [], {})),
        delivered(closed=ChunkClosed(1, DONE, [(number, 0, 0)], {})),
        delivered(closed=ChunkClosed(1, DONE, [], {"endpoint.rate_limited": number})),
    ):
        with pytest.raises(BadMessage):
            unpack_delivery(data)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("field", ["latency_s", "finished_at"])
def test_an_absurd_time_is_refused(field: str, seconds: float) -> None:
    with pytest.raises(BadMessage):
        unpack_delivery(delivered(result={field: seconds}))


def test_a_call_of_weeks_and_tokens_by_the_trillion_are_refused() -> None:
    """Each minute of a call is looked at, and a thousand times 2^53 is no number of SQLite."""
    for data in (
        delivered({"latency_s": 1e12}),
        delivered(result={"latency_s": 1e12}),
        delivered({"usage": Usage(2**40 + 1, 1)}),
        delivered({"bound_tokens": 2**53}),
    ):
        with pytest.raises(BadMessage):
            unpack_delivery(data)


@pytest.mark.parametrize("place", [-2, 1, 2**40])
def test_a_result_without_its_answer_is_refused(place: int) -> None:
    with pytest.raises(BadMessage):
        unpack_delivery(delivered(result={"body": place}))


@pytest.mark.parametrize(
    ("billing", "cost"),
    [(Billing.KNOWN, None), (Billing.UNKNOWN, Decimal(1)), (Billing.NONE, Decimal(1))],
)
def test_a_cost_belongs_to_a_known_call_and_to_no_other(
    billing: Billing, cost: Decimal | None
) -> None:
    with pytest.raises(BadMessage):
        unpack_delivery(delivered({"billing": billing, "cost": cost}))


@pytest.mark.parametrize("job", ["", "job_1", "../../etc/passwd", JOB + "x", JOB.upper(), "*"])
def test_a_job_that_cannot_be_is_refused_r19_s1(job: str) -> None:
    with pytest.raises(BadMessage):
        unpack_delivery(delivered(job=job))
    with pytest.raises(BadMessage):
        unpack_payload(pack_payload(Payload(job, "", 1, "", "", Terms(), Amount(), (), [])))


@pytest.mark.parametrize("outbox", ["", "a:b", "x" * 65, "box\n", "ящик"])
def test_an_outbox_that_cannot_be_is_refused(outbox: str) -> None:
    with pytest.raises(BadMessage):
        unpack_delivery(delivered(outbox=outbox))


def test_a_request_for_a_model_that_is_not_listed_is_refused() -> None:
    work = Work(0, 1, b"{}", Decimal(1), 1)
    payload = Payload(JOB, "", 1, "", "", Terms(), Amount(), ("only/one",), [work])

    with pytest.raises(BadMessage, match="without a model"):
        unpack_payload(pack_payload(payload))


def test_text_that_is_not_utf8_is_a_bad_message() -> None:
    with pytest.raises(BadMessage):
        unpack_delivery(delivered().replace(b"box-1", b"box\xff1"))
