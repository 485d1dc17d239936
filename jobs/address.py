"""The endpoint's address: a host, a path, and perhaps a query such as Azure's `api-version`."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from jobs.errors import InvalidValue
from jobs.message import N_, Message

DEFAULT_BASE_URL = "https://routerai.ru/api/v1"

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

_PLAIN = re.compile(r"https?://[^\s\x00-\x20\x7f\\]+", re.IGNORECASE)
"""Without spaces, controls and backslashes, of which parsers make different hosts."""

_METHOD = re.compile(r"(?:/chat/completions|/completions|/responses|/embeddings)$")
_SHARED = ip_network("100.64.0.0/10")
"""Of carriers, and of private overlays such as Tailscale's."""

_LOCAL_ENDINGS = (".local", ".lan", ".internal", ".localdomain", ".home.arpa")
_SECRET = re.compile(
    r"(?:(?i:^|[-_])(?i:api)?(?i:key|token|secret|password|sig|signature|code|credential|auth)"
    r"|(?<=[a-z])(?:Key|Token|Secret|Password|Signature|Credential))$"
)
_SECRET_VALUE = re.compile(r"(?:sk|pk|gsk|xai)-\w|eyJ\w|bearer ", re.IGNORECASE)


def check_base_url(value: str, *, insecure: bool = False) -> str:
    """The endpoint's address without a trailing slash in its path.

    `ValueError` unless it is https, or http to this machine, or, if `insecure`, to a private
    address: a key must not cross a public network in the clear.
    """
    if "@" in value or "#" in value or value.endswith("?"):
        # Not shown: what stands before an @ may be a password.
        raise InvalidValue(N_("an endpoint's address may contain only a host, a path and a query"))
    if not _is_address(value):
        raise InvalidValue(
            N_("{value!r} is not an address such as https://routerai.ru/api/v1", value=value)
        )
    parts = urlsplit(value)
    asked = parse_qsl(parts.query, keep_blank_values=True)
    if any(_SECRET.search(name) or _SECRET_VALUE.match(value) for name, value in asked):
        raise InvalidValue(
            N_("a key in the address would be stored with the job; pass it with --header")
        )
    host = parts.hostname or ""
    if parts.scheme == "http" and host not in LOOPBACK and not (insecure and is_private(host)):
        raise InvalidValue(_in_the_clear(value, host))
    path = parts.path.rstrip("/")
    if found := _METHOD.search(path):
        rest = urlunsplit(parts._replace(path=path[: found.start()]))
        raise InvalidValue(
            N_(
                "{found} is appended to the address automatically; use {rest}",
                found=found[0],
                rest=rest,
            )
        )
    return urlunsplit(parts._replace(path=path))


def _in_the_clear(value: str, host: str) -> Message:
    if is_private(host):
        return N_(
            "{value!r} would send the key unencrypted; use https, or --insecure-http in a network"
            " of your own",
            value=value,
        )
    return N_("{value!r} would send the key unencrypted; use https", value=value)


def is_private(host: str) -> bool:
    """Whether a host is in a network of one's own: a private IP, or a name that only such a network
    knows (`vllm`, `gpu.lan`).
    """
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_LOCAL_ENDINGS)
    return (address.is_private or address in _SHARED) and not address.is_unspecified


def join(base_url: str, path: str) -> str:
    """The address of something at the endpoint; `path` may bring a query of its own."""
    address, _, query = base_url.partition("?")
    path, _, more = path.partition("?")
    queries = "&".join(filter(None, (query, more)))
    return f"{address.rstrip('/')}/{path}" + (f"?{queries}" if queries else "")


def _is_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return _PLAIN.fullmatch(value) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # Brackets that do not close, a port that is no number.
        return False
