"""What a model's name says beside the model: RouterAI's and OpenRouter's forms.

author/slug                                    as the catalogue lists it
author/slug:nitro                              a way to route, that the catalogue does not list
author/slug@provider=TAG&allow_fallbacks=false served by that provider alone
~author/slug-latest                            an alias, whose meaning may change
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import parse_qs

_DATED = re.compile(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|latest|preview|\d{4})$")
_MOST_NEAR = 3


class Asked(NamedTuple):
    """A name taken apart: how the catalogue may list it, and who must serve it.

    `providers` are the only ones that can, by tag; empty: any.
    """

    listed: tuple[str, ...]
    providers: tuple[str, ...] = ()


def take_apart(name: str) -> Asked:
    """The candidates for the catalogue, the likeliest first."""
    base, _, options = name.partition("@")
    plain = base.rpartition(":")[0]
    listed = tuple(dict.fromkeys(filter(None, (name, base, plain))))
    told = parse_qs(options)
    firm = told.get("allow_fallbacks", [""])[-1] == "false"
    return Asked(listed, tuple(told.get("provider", ())) if firm else ())


def is_alias(name: str) -> bool:
    """Whether the endpoint decides, call by call, which model is meant."""
    return name.startswith("~")


def nearest(name: str, listed: Collection[str]) -> list[str]:
    """The listed names that were likely meant, the likeliest first; few, or none."""
    wanted = _key(name)
    same = sorted(each for each in listed if _key(each) == wanted)
    by_key: dict[str, str] = {}
    for each in sorted(listed, reverse=True):
        by_key[_key(each)] = each
    alike = [by_key[key] for key in difflib.get_close_matches(wanted, by_key, _MOST_NEAR, 0.6)]
    return list(dict.fromkeys((*same, *alike)))[:_MOST_NEAR]


def _key(name: str) -> str:
    """The slug without author, routing, provider and date, and one kind of hyphen."""
    slug = take_apart(name).listed[-1].rpartition("/")[2].lower()
    return _DATED.sub("", slug).replace(".", "-").replace("_", "-")
