"""What proves that something is of our making, and what tells keys apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BadMessage
from jobs.signing import Seal, Target, fingerprint, joined, key_of

OURS, THEIRS = Seal(b"a" * 32), Seal(b"b" * 32)


@given(st.text(max_size=20), st.binary(max_size=200))
def test_what_is_signed_comes_out_as_it_went_in_and_with_no_other_secret(
    place: str, data: bytes
) -> None:
    signed = OURS.sign(place, data)

    assert OURS.verify(place, signed) == OURS.opened(place, signed) == data
    assert THEIRS.opened(place, signed) is OURS.opened(place, None) is None
    with pytest.raises(BadMessage):
        THEIRS.verify(place, signed)


@given(st.binary(min_size=1, max_size=60), st.integers(0), st.integers(1, 255))
def test_no_byte_can_be_changed_added_or_left_out(data: bytes, at: int, change: int) -> None:
    signed = OURS.sign("place", data)
    at %= len(signed)
    changed = signed[:at] + bytes([signed[at] ^ change]) + signed[at + 1 :]

    for forged in (changed, signed[:-1], signed + b"\0", signed[1:], data, b""):
        with pytest.raises(BadMessage):
            OURS.verify("place", forged)


def test_what_is_signed_for_one_place_counts_at_no_other() -> None:
    """Also where place and data together have the same bytes."""
    signed = OURS.sign("ab", b"c")

    for place, forged in (("a", signed[:16] + b"bc"), ("ab ", signed), ("", signed)):
        with pytest.raises(BadMessage):
            OURS.verify(place, forged)


def test_programs_that_would_not_understand_each_other_have_different_queues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Target("http://127.0.0.1:1/v1", "key")
    now = OURS.queue(target)
    monkeypatch.setattr("jobs.signing.DIALOGUE", 1)

    assert OURS.queue(target) != now


def test_another_endpoint_key_or_secret_has_another_queue() -> None:
    targets = [Target(url, key) for url in ("https://a/v1", "https://b/v1") for key in "kl"]

    assert len({seal.queue(each) for seal in (OURS, THEIRS) for each in targets}) == 8


def test_a_fingerprint_tells_keys_apart_and_is_none_of_the_hashes_that_are_quickly_tried() -> None:
    one, other = fingerprint("sk-1"), fingerprint("sk-2")

    assert one != other
    assert one == fingerprint("sk-1")
    assert len(one) == 12


def test_headers_tell_those_apart_who_have_the_same_key() -> None:
    bare, one = fingerprint("sk-1"), fingerprint("sk-1", {"X-Org": "1", "x-team": "a"})
    other, keyless = fingerprint("sk-1", {"X-Org": "2"}), fingerprint("", {"X-Org": "2"})

    assert one == fingerprint("sk-1", {"X-Team": "a", "x-org": "1"})
    assert len({bare, one, other}) == 3
    assert [key_of(each) for each in (bare, one, other, keyless)] == [bare, bare, bare, ""]
    assert joined(keyless, one) == joined(bare, other) == joined(other, "") == other
    assert joined("", one) == one
