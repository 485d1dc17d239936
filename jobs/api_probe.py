"""Whether an API is at an address, by what it says to an empty chat request; where else to try.

An empty request costs nothing: who knows the path says what is missing in it, or refuses the key.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import msgspec

EMPTY = b"{}"
"""The body of such a request."""

_UNKNOWN_PATH = frozenset({404, 405})


def speaks(status: int, body: bytes) -> bool:
    """Whether this is the word of an API that knows the path.

    Web frameworks answer for a path that they do not know in JSON, too; of a 404 only one that
    speaks of the model is about the request.
    """
    if 300 <= status < 400 or not _is_object(body):
        return False
    return status not in _UNKNOWN_PATH or b"model" in body.lower()


def _is_object(body: bytes) -> bool:
    try:
        found = msgspec.json.decode(body, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return bytes(found)[:1] in (b"{", b"[")


def others(base_url: str) -> list[str]:
    """Addresses at the same host that may be meant: with a version behind it, or less of a path."""
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/")
    above = path.rpartition("/")[0]
    paths = (f"{path}/v1", f"{path}/api/v1", above, "/v1", "/api/v1")
    return [
        urlunsplit(parts._replace(path=one))
        for one in dict.fromkeys(paths)
        if one not in ("", path)
    ]
