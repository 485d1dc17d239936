"""The reader's language: English as it stands in the code, or Russian.

`NIGHTSHIFT_LANG` chooses, else `LC_ALL`, `LC_MESSAGES` or `LANG`. What people read is translated
where it is shown: `_` takes texts of this code, and messages (`jobs.message`) that were made
elsewhere. What is logged or made for programs stays English.
"""

from __future__ import annotations

import gettext
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from jobs.message import Message, Parameter, filled
from jobs.money import plain, show

DOMAIN = "nightshift"
FOLDER = Path(__file__).parent / "languages"
VARIABLE = "NIGHTSHIFT_LANG"

_ASKED = (VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}")
_STEP = 1024

_zone: ContextVar[ZoneInfo | None] = ContextVar("zone", default=None)


def code() -> str:
    """`ru` or `en`."""
    wanted = next((os.environ[name] for name in _ASKED if os.environ.get(name)), "")
    return "ru" if wanted.lower().replace("-", "_").split(".")[0].split("_")[0] == "ru" else "en"


def use(language: str) -> None:
    """From now on this language, whatever the environment said."""
    os.environ[VARIABLE] = language
    _words.cache_clear()


def teach_click() -> None:
    """Has click find its own words, for which it asks the standard library."""
    gettext.bindtextdomain(DOMAIN, str(FOLDER))
    gettext.textdomain(DOMAIN)
    os.environ["LANGUAGE"] = code()


def _(message: str) -> str:
    """The message in the reader's language, its blanks filled as the reader writes what they hold.

    A text that no catalogue has, such as an endpoint's, is returned as it is.
    """
    if isinstance(message, Message) and message.parameters:
        return filled(_(message.form), message.parameters, _put)
    words = _words()
    text = str(message)
    return words.gettext(text) if words and text else text


def capital(clause: str) -> str:
    """A clause as a sentence of its own."""
    return f"{clause[:1].upper()}{clause[1:]}."


def ngettext(one: str, many: str, count: int) -> str:
    """The message in the form that goes with `count`; it is not filled in."""
    words = _words()
    if words:
        return words.ngettext(one, many, count)
    return one if count == 1 else many


def _put(value: Parameter, spec: str) -> str:
    """A parameter as the reader writes it."""
    match value:
        case Message():
            return _(value)
        case Decimal() if spec in ("", "exact"):
            return exact(value) if spec == "exact" else money(value)
        case datetime():
            return zoned(value.timestamp())
        case str():
            return value
    return _marked(format(value, spec.removeprefix("exact")))


def number(count: int) -> str:
    """A whole number, thousands apart: `12,345`, `12 345`."""
    return _marked(f"{count:,}")


def decimal(value: float | Decimal, places: int) -> str:
    """`12.5`, `12,5`."""
    return _marked(f"{value:.{places}f}")


def money(amount: Decimal) -> str:
    """An amount in ₽, rounded for the eye: `1,312.40 ₽`, `1 312,40 ₽`."""
    return _marked(show(amount))


def exact(amount: Decimal) -> str:
    """A figure to its last digit: `7.0301717168`, `7,0301717168`."""
    return _marked(plain(amount))


def _marked(figure: str) -> str:
    """A figure as the reader writes it: thousands apart, and the mark before its decimals."""
    return figure if code() == "en" else figure.translate(_MARKS)


_MARKS = str.maketrans({",": "\N{NO-BREAK SPACE}", ".": ","})


def day(when: datetime) -> str:
    """`2026-05-03`, `03.05.2026`."""
    return when.strftime("%Y-%m-%d" if code() == "en" else "%d.%m.%Y")


def moment(when: datetime) -> str:
    """A minute of a day: `2026-05-03 23:00`, `03.05.2026 23:00`."""
    return f"{day(when)} {when:%H:%M}"


def zoned(at: float) -> str:
    """A moment (Unix seconds) with the zone it is told in: `2026-05-03 23:00 MSK`."""
    when = local(at)
    return f"{moment(when)} {when:%Z}".rstrip()


def minute(at: float, form: str = "%H:%M %Z") -> str:
    """The same without the day where it is near: `23:00 MSK`."""
    near = abs(at - time.time()) < _NEAR_S
    return local(at).strftime(form).rstrip() if near else zoned(at)


def clock(at: float) -> str:
    """The same to the second: `23:00:07 MSK`."""
    return minute(at, "%H:%M:%S %Z")


_NEAR_S = 20 * 3600.0


def size(count: int) -> str:
    """Bytes in a unit that people read: `12 kB`, `3.4 MB`."""
    if count < _STEP**2:
        return _("{size} kB").format(size=number(-(-count // _STEP)))
    if count < _STEP**3:
        return _("{size} MB").format(size=decimal(count / _STEP**2, 1))
    return _("{size} GB").format(size=decimal(count / _STEP**3, 1))


def use_zone(name: str) -> None:
    """What is shown from now on in this context has the times of this zone, such as
    `Europe/Moscow`; of one that is not known here, this machine's.
    """
    try:
        _zone.set(ZoneInfo(name) if _ZONE.fullmatch(name) else None)
    except (KeyError, OSError, ValueError):
        _zone.set(None)


@contextmanager
def in_zone(zone: ZoneInfo | None) -> Iterator[None]:
    """What is shown within has the times of this zone; None: of the one that holds already."""
    token = _zone.set(zone or _zone.get())
    try:
        yield
    finally:
        _zone.reset(token)


def local(at: float) -> datetime:
    """A moment (Unix seconds) in the zone of whoever looks, at first this machine's."""
    return datetime.fromtimestamp(min(max(at, 0.0), 4e9), UTC).astimezone(_zone.get())


def zone_name() -> str:
    """The zone of whoever looks, as people know it."""
    zone = _zone.get()
    return zone.key if zone else f"{datetime.now().astimezone():%Z}"


def zone_key() -> str:
    """The same by its IANA name; `UTC` where nobody knows one of this machine's zone."""
    zone = _zone.get()
    named = os.environ.get("TZ") or os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    return zone.key if zone else _known(named.removeprefix(":")) or "UTC"


def _known(name: str) -> str:
    """A zone's name, "" if it is none."""
    try:
        return ZoneInfo(name).key if _ZONE.fullmatch(name) else ""
    except (KeyError, OSError, ValueError):
        return ""


@cache
def _words() -> gettext.GNUTranslations | None:
    """The catalogue; None for English, which needs none."""
    language = code()
    if language == "en":
        return None
    with (FOLDER / language / "LC_MESSAGES" / f"{DOMAIN}.mo").open("rb") as file:
        return gettext.GNUTranslations(file)
