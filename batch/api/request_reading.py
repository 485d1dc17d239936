"""What routes read of a request."""

from __future__ import annotations

import json
import re

from starlette.requests import Request

from batch.api.api_errors import ApiError, invalid, wrong_type
from batch.api.batch_options import check_range
from batch.api.context import Desk

_LARGEST_JSON = 1024 * 1024
_MOST_LINES = 10**12


def desk_of(request: Request) -> Desk:
    """The desk that the application was made for."""
    desk: Desk = request.app.state.desk
    return desk


def tenant_of(request: Request) -> str:
    """Who asks."""
    tenant: str = request.state.tenant
    return tenant


def whole_number(request: Request, name: str, default: int, most: int, *, least: int = 1) -> int:
    """A number of the query."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"-?[0-9]{1,17}", text):
        raise wrong_type(name, "an integer", text)
    check_range(name, int(text), least, most)
    return int(text)


def lines_asked(request: Request, most: int = _MOST_LINES) -> tuple[int, int]:
    """Which lines of results: from `offset` on, counted from 0, at most `limit`."""
    return (
        whole_number(request, "offset", 0, _MOST_LINES, least=0),
        whole_number(request, "limit", most, most),
    )


def told_so_far(line: int, *, more: bool) -> dict[str, str]:
    """Two headers as at Doubleword: the next `offset`, and whether more may come."""
    return {"X-Last-Line": str(line), "X-Incomplete": str(more).lower()}


async def json_body(request: Request) -> object:
    """The body as JSON, bounded."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_JSON:
            raise ApiError(413, "The request body is too large.")
    try:
        found = json.loads(body or b"{}", parse_constant=_refuse)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        raise invalid("We could not parse the JSON body of your request.") from None
    return found


def _refuse(name: str) -> None:
    raise ValueError(name)
