"""What a line must be to become a request, and how its body is cut out of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from batch.reading.foreign_lines import form_of_line
from batch.reading.input_warnings import ends_with_answer, oddities, oddities_of_texts
from batch.reading.json_scan import Flaw, Kind, Node, is_blank, scan, text_of
from jobs.message import N_, Message
from jobs.request import Fault, Request
from jobs.request_kinds import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    KINDS,
    RESPONSES,
    kind_by_shape,
    kind_of,
)
from jobs.request_kinds import Kind as Asked

LONGEST_NAME = 512
"""Characters of a `custom_id`, and of a model's name."""

LARGEST_OUTPUT = 2**31 - 1
"""The most that `max_tokens` may ask for."""

UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control and bidirectional characters: an id or a name with one does not show as what it is."""

_BOM = b"\xef\xbb\xbf"
_KEYS = frozenset({"api_key", "apikey", "authorization", "x_api_key"})
_HOSTS = frozenset({"base_url", "api_base", "endpoint_url", "http_client", "proxy"})
_EXTRAS = frozenset({"extra_headers", "extra_query", "extra_body", "default_headers", "headers"})

_BOUNDED_PARTS = frozenset({"text", "refusal"})
_BOUNDED_ITEM_PARTS = frozenset(
    {"input_text", "output_text", "refusal", "reasoning_text", "summary_text"}
)
_BOUNDED_ITEMS = frozenset({"message", "function_call", "function_call_output", "reasoning"})
_BOUNDED_TIERS = frozenset({"auto", "default", "standard", "flex"})
_FREE_KEYS = (
    *dict.fromkeys(kind.asks for kind in KINDS.values()),
    *("instructions", "user", "safety_identifier", "prompt_cache_key", "session_id", "metadata"),
)
_JUDGED_KEYS = frozenset({"role", "type"})
_COUNT = re.compile(rb"0|[1-9][0-9]{0,9}")
_PLAIN_FLAWS = frozenset(
    {f"input.{what}" for what in ("api_key", "surrogate", "number", "depth", "too_long")}
)
"""Faults that stand for themselves, whatever else the line is."""

_ABSENT = Node(Kind.NULL, 0, 0)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What `--model` and `--max-tokens` put in where a body leaves it out, and other names for
    models: of some (`--model-map`), or of all (`--override-model`). `drop_last_assistant`: answers
    at the end of the messages are left out. `service_tier` is put in as well; `max_tokens_field` is
    what a bound of the answer is called in a chat request. `endpoint` is what all lines are for,
    where they do not say it; `whole`: every line is one of a Batch API, with nothing left out.
    """

    model: str | None = None
    max_tokens: int | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    override: str | None = None
    drop_last_assistant: bool = False
    service_tier: str | None = None
    max_tokens_field: str | None = None
    endpoint: str | None = None
    whole: bool = False

    @property
    def kind(self) -> Asked | None:
        """The only kind of request that there may be; None: any."""
        return None if self.endpoint is None else KINDS[self.endpoint]

    def model_for(self, told: str | None) -> str | None:
        """The model to ask where a body names this one or none; None if nothing names one."""
        named = self.override or told or self.model
        return self.renamed.get(named, named) if named else None


class Edit(msgspec.Struct, frozen=True):
    """The bytes `start` up to `stop` of a line give way to `text`."""

    start: int
    stop: int
    text: bytes


class Draft(msgspec.Struct, frozen=True):
    """A request, and how it came out of its line.

    `edits` turn the line into the body. `custom_id` is where the id stands between its quotes, if
    it does. `texts` are the strings, quotes included, that no rule looks into.
    """

    request: Request
    edits: tuple[Edit, ...]
    custom_id: tuple[int, int] | None
    texts: tuple[tuple[int, int], ...]


def draft(line: bytes, number: int, defaults: Defaults) -> Draft | Fault:
    """Judges one line, without its line feed, strictly and whole: the last word on every line."""
    rules = _Rules(line, number, defaults)
    try:
        return rules.draft()
    except Flaw as flaw:
        form = None if flaw.code in _PLAIN_FLAWS else form_of_line(line)
        told = flaw.message if form is None else form.told
        return Fault(number, flaw.code, told, flaw.offset, rules.custom_id, form)


def overlong(number: int, longest: int) -> Fault:
    """The fault of a line that was not even kept."""
    told = N_(
        "the line is longer than {longest:,} bytes; shorten the prompt or split it", longest=longest
    )
    return Fault(number, "input.too_long", told)


def edited(line: bytes, start: int, stop: int, edits: tuple[Edit, ...]) -> bytes:
    """The bytes `start` up to `stop` of the line with the edits made, which come in order."""
    kept, at = list[bytes](), start
    for edit in edits:
        if edit.start >= stop:
            break
        kept.append(line[at : edit.start])
        if edit.start >= start:
            kept.append(edit.text)
        at = max(at, edit.stop)
    kept.append(line[at:stop])
    return b"".join(kept)


class _Rules:
    def __init__(self, line: bytes, number: int, defaults: Defaults) -> None:
        self._line = line
        self._number = number
        self._defaults = defaults
        self._edits: list[Edit] = []
        self._path = ""
        self._kind = CHAT
        self.custom_id: str | None = None

    def draft(self) -> Draft:
        _check_encoding(self._line)
        root = scan(self._line)
        if root.kind is not Kind.OBJECT:
            told = N_(
                "the line is {kind}; each line must be one object in {}", kind=root.kind.value
            )
            raise Flaw("input.json", told, root.start)
        id_at = self._read_id(root)
        if self._defaults.whole:
            self._check_whole(root)
        body = self._bare(root) if self._is_bare(root) else self._enveloped(root)
        request = self._request(body)
        self._cut_around(body)
        edits = tuple(sorted(self._edits, key=lambda edit: edit.start))
        request = msgspec.structs.replace(
            request, body=edited(self._line, 0, len(self._line), edits)
        )
        return Draft(request, edits, id_at, tuple(sorted(_free_texts(self._line, body))))

    def _read_id(self, root: Node) -> tuple[int, int] | None:
        member = root.members.get("custom_id")
        if member is None:
            return None
        node = member.value
        self.custom_id = self._name(node, "custom_id")
        return node.start + 1, node.stop - 1

    def _check_whole(self, root: Node) -> None:
        for key in ("custom_id", "method", "url", "body"):
            if self._member(root, key).kind is Kind.NULL:
                raise Flaw("input.field", N_('"{key}" is missing', key=key), root.start)
        kind = self._defaults.kind or CHAT
        told = N_('"url" must be "{url}"', url=kind.url)
        self._expect(root, "url", lambda text: text in (kind.url, f"/{kind.path}"), told)

    def _is_bare(self, root: Node) -> bool:
        """Whether the line is a body; then its kind is known."""
        kind = None if "body" in root.members else self._shape(root)
        self._kind = kind or self._kind
        return kind is not None

    def _shape(self, body: Node) -> Asked | None:
        """The kind of a body, by what was told of all of them, or by what it asks in."""
        told = self._defaults.kind
        if told is not None:
            return told if told.asks in body.members else None
        if CHAT.asks in body.members:
            return CHAT
        if not any(kind.asks in body.members for kind in KINDS.values()):
            return None
        return kind_by_shape(msgspec.json.decode(self._raw(body)))

    def _bare(self, root: Node) -> Node:
        if self.custom_id is None:
            self.custom_id = f"line-{self._number}"
        else:
            self._edits.append(_cut(root, "custom_id"))
        return root

    def _enveloped(self, root: Node) -> Node:
        self._refuse_foreign_keys(root)
        self._path = "body."
        body = self._member(root, "body")
        if body.kind is not Kind.OBJECT:
            asks = (self._defaults.kind or CHAT).asks
            told = N_(
                '"body" must be an object with "{asks}"; a line may also be such a body itself',
                asks=asks,
            )
            raise Flaw("input.field", told, body.start)
        if self.custom_id is None:
            raise Flaw(
                "input.field", N_('"custom_id" is missing; give each request a unique one'), 0
            )
        message = N_('"method" must be "POST"')
        self._expect(root, "method", lambda text: text == "POST", message)
        self._kind = self._kind_of(root, body)
        return body

    def _kind_of(self, root: Node, body: Node) -> Asked:
        url, told = self._member(root, "url"), self._defaults.kind
        if url is _ABSENT:
            return told or self._shape(body) or CHAT
        kind = kind_of(self._text(url) or "")
        if kind is None:
            ways = ", ".join(f"/{each.path}" for each in KINDS.values())
            text = N_(
                '"url" must end in one of {ways}; the host is set only by --base-url', ways=ways
            )
            raise Flaw("input.url", text, url.start)
        if told not in (None, kind):
            text = N_(
                '"url" is for /{path}, but all requests of this job are for {url}',
                path=kind.path,
                url=told.url,
            )
            raise Flaw("input.url", text, url.start)
        return kind

    def _expect(self, root: Node, key: str, fits: Callable[[str], bool], told: Message) -> None:
        node = self._member(root, key)
        if node is not _ABSENT and not fits(self._text(node) or ""):
            raise Flaw("input.url", told, node.start)

    def _request(self, body: Node) -> Request:
        self._refuse_foreign_keys(body)
        self._refuse_many_answers(body)
        model, kind = self._model(body), self._kind
        asked, unbounded = _CONTENTS[kind.url](self, body)
        answers = self._answers(body, asked)
        max_output = self._max_output(body, answers)
        if max_output is None and answers > 1:
            unbounded = unbounded or f"{answers} answers without {kind.bounds[0]}"
        unbounded = _printable(unbounded or self._unbounded(body, model))
        bare, line = not self._path, self._line
        odd = (
            oddities(line, body, asked, bare=bare)
            if kind is CHAT
            else oddities_of_texts(line, asked)
        )
        facts = (
            len(asked) if kind in _IN_TURNS else 1,
            max_output,
            unbounded,
            odd,
            self._pin(body),
        )
        return Request(self._number, self.custom_id or "", model, b"", *facts, kind.url)

    def _refuse_foreign_keys(self, node: Node) -> None:
        for key, member in node.members.items():
            plain = key.lower().replace("-", "_")
            if plain in _KEYS:
                told = N_("the line contains an API key; remove it, also from copies of the file")
                raise Flaw("input.api_key", told, member.start)
            if plain in _HOSTS:
                told = N_(
                    '"{plain}" is not allowed in a line; set the endpoint with --base-url',
                    plain=plain,
                )
                raise Flaw("input.url", told, member.start)
            if plain in _EXTRAS:
                told = N_('"{plain}" is an SDK option, not a request field; remove it', plain=plain)
                raise Flaw("input.unsupported", told, member.start)

    def _refuse_many_answers(self, body: Node) -> None:
        for key in ("stream", "background"):
            node = self._member(body, key)
            if node.kind not in (Kind.FALSE, Kind.NULL):
                where = f"{self._path}{key}"
                told = N_(
                    '"{where}" must be false or absent: answers are stored whole', where=where
                )
                raise Flaw("input.unsupported", told, node.start)
        n = self._member(body, "n")
        if self._kind is COMPLETIONS:
            return
        if n.kind is not Kind.NULL and self._raw(n) != b"1":
            told = N_(
                '"{path}n" must be 1 or absent; add a line for each answer you want',
                path=self._path,
            )
            raise Flaw("input.unsupported", told, n.start)

    def _model(self, body: Node) -> str:
        node = self._member(body, "model")
        named = None if node.kind is Kind.NULL else self._name(node, f"{self._path}model")
        model = self._defaults.model_for(named)
        if model is None:
            told = N_(
                '"{path}model" is missing; add it, or set one for all requests with --model',
                path=self._path,
            )
            raise Flaw("input.field", told, body.start)
        if model != named:
            self._put_in(body, "model", model)
        return model

    def _answers(self, body: Node, asked: list[Node]) -> int:
        """How many answers are paid for: to each prompt, and of each the best of some."""
        if not self._kind.many:
            return 1
        return len(asked) * max(self._count(body, key) or 1 for key in ("n", "best_of"))

    def _max_output(self, body: Node, answers: int) -> int | None:
        """Tokens of all answers together; None: nothing bounds them."""
        kind, default = self._kind, self._defaults.max_tokens
        if not kind.bounds:
            return 0
        told = {key: self._count(body, key) for key in kind.bounds}
        limits = [limit for limit in told.values() if limit is not None]
        wanted = self._defaults.max_tokens_field if kind is CHAT else None
        if not limits and default is not None:
            self._put_in(body, wanted or kind.bounds[0], default)
            return default * answers
        if wanted is not None:
            self._rename(body, [key for key in kind.bounds if key in body.members], wanted)
        return max(limits) * answers if limits else None

    def _rename(self, body: Node, keys: list[str], wanted: str) -> None:
        """Has the bound of the answer stand under one name: two of them stay as they are."""
        if len(keys) == 1 and keys[0] != wanted:
            start = body.members[keys[0]].start
            # The key may be written with escapes.
            stop = self._line.index(b'"', start + 1) + 1
            if self._line[start:stop] == b'"%b"' % keys[0].encode():
                self._edits.append(Edit(start, stop, b'"%b"' % wanted.encode()))

    def _count(self, body: Node, key: str) -> int | None:
        node = self._member(body, key)
        if node.kind is Kind.NULL:
            return None
        raw = self._raw(node)
        # No new token at all: that is how a text is scored by completions.
        least = 0 if self._kind.many and key in self._kind.bounds else 1
        if not _COUNT.fullmatch(raw) or not least <= int(raw) <= LARGEST_OUTPUT:
            told = N_(
                '"{path}{key}" must be a whole number from {least} to {most}',
                path=self._path,
                key=key,
                least=least,
                most=LARGEST_OUTPUT,
            )
            raise Flaw("input.field", told, node.start)
        return int(raw)

    def _put_in(self, body: Node, key: str, value: str | int) -> None:
        text = msgspec.json.encode(value)
        node = self._member(body, key)
        if node is not _ABSENT:
            self._edits.append(Edit(node.start, node.stop, text))
            return
        self._edits.append(Edit(body.start + 1, body.start + 1, b'"%b":%b,' % (key.encode(), text)))

    def _messages(self, body: Node) -> tuple[list[Node], str]:
        """Those that are sent, and the first part in them that no size bounds."""
        node = self._member(body, "messages")
        where = f"{self._path}messages"
        if node.kind is not Kind.ARRAY or not node.items:
            told = N_(
                '"{where}" must be a list of at least one message with "role" and "content"',
                where=where,
            )
            raise Flaw("input.field", told, body.start if node is _ABSENT else node.start)
        found = [self._message(item, f"{where}[{place}]") for place, item in enumerate(node.items)]
        return self._sent(node), next(filter(None, found), "")

    def _sent(self, messages: Node) -> list[Node]:
        """All of them, or without the answers at their end that are not wanted."""
        sent = list(messages.items)
        while self._defaults.drop_last_assistant and sent and ends_with_answer(self._line, sent):
            sent.pop()
        if not sent:
            told = N_("no messages are left without the assistant's (--drop-last-assistant)")
            raise Flaw("input.field", told, messages.start)
        if len(sent) < len(messages.items):
            self._edits.append(Edit(sent[-1].stop, messages.items[-1].stop, b""))
        return sent

    def _message(self, node: Node, where: str) -> str:
        role, content = self._member(node, "role"), self._member(node, "content")
        if node.kind is not Kind.OBJECT or role.kind is not Kind.STRING:
            told = N_('"{where}" must be an object whose "role" is a string', where=where)
            raise Flaw("input.field", told, node.start)
        if content.kind not in (Kind.STRING, Kind.ARRAY, Kind.NULL):
            told = N_('"{where}.content" must be a string or a list of parts', where=where)
            raise Flaw("input.field", told, content.start)
        parts = [self._part(part, f"{where}.content") for part in content.items]
        return next(filter(None, parts), "")

    def _items(self, body: Node) -> tuple[list[Node], str]:
        """What a response is asked for: a text, or a list of items; and what no size bounds."""
        node, where = self._member(body, "input"), f"{self._path}input"
        if node.kind is Kind.STRING:
            return [node], ""
        if node is _ABSENT and "prompt" in body.members:
            return [], "prompt"
        if node.kind is not Kind.ARRAY or not node.items:
            told = N_('"{where}" must be a string or a list of at least one item', where=where)
            raise Flaw("input.field", told, body.start if node is _ABSENT else node.start)
        found = [self._item(item, f"{where}[{place}]") for place, item in enumerate(node.items)]
        return node.items, next(filter(None, found), "")

    def _item(self, node: Node, where: str) -> str:
        kind = self._text(self._member(node, "type")) or "message"
        content = self._member(node, "content")
        if node.kind is not Kind.OBJECT or (kind == "message" and "role" not in node.members):
            told = N_(
                '"{where}" must be an object with "role" and "content", or of another type',
                where=where,
            )
            raise Flaw("input.field", told, node.start)
        if kind == "message" and content.kind not in (Kind.STRING, Kind.ARRAY):
            told = N_('"{where}.content" must be a string or a list of parts', where=where)
            raise Flaw("input.field", told, content.start)
        lists = [content, self._member(node, "output")]
        parts = [
            self._part(part, f"{where}.content", _BOUNDED_ITEM_PARTS)
            for each in lists
            for part in each.items
        ]
        return next(filter(None, parts), "" if kind in _BOUNDED_ITEMS else kind)

    def _plain(self, body: Node) -> tuple[list[Node], str]:
        """Texts, or lists of tokens: each of them is answered."""
        where, node = f"{self._path}{self._kind.asks}", self._member(body, self._kind.asks)
        if node.kind is Kind.STRING:
            return [node], ""
        kinds = {item.kind for item in node.items}
        if kinds == {Kind.NUMBER}:
            return [node], ""
        if kinds == {Kind.OBJECT} and self._kind is EMBEDDINGS:
            return node.items, "parts of the input"
        tokens = kinds == {Kind.ARRAY} and all(
            inner.kind is Kind.NUMBER for item in node.items for inner in item.items
        )
        if kinds != {Kind.STRING} and not tokens:
            told = N_(
                '"{where}" must be a string, a list of strings, or lists of tokens', where=where
            )
            raise Flaw("input.field", told, body.start if node is _ABSENT else node.start)
        return node.items, ""

    def _part(self, node: Node, where: str, bounded: frozenset[str] = _BOUNDED_PARTS) -> str:
        kind = self._member(node, "type")
        if kind.kind is not Kind.STRING:
            told = N_(
                'each part of "{where}" must be an object whose "type" is a string', where=where
            )
            raise Flaw("input.field", told, node.start)
        name = text_of(self._line, kind)
        return "" if name in bounded else name or "unknown part"

    def _unbounded(self, body: Node, model: str) -> str:
        """The first thing beside the messages whose cost no size bounds."""
        for key in self._kind.unbounded:
            node = self._member(body, key)
            if node.kind is not Kind.NULL and not (node.kind is Kind.ARRAY and not node.items):
                return key
        if model.endswith(":online"):
            return ":online"
        return self._tool(body) or self._tier(body) or self._modality(body)

    def _tool(self, body: Node) -> str:
        tools = self._member(body, "tools")
        if tools.kind not in (Kind.ARRAY, Kind.NULL):
            raise Flaw(
                "input.field", N_('"{path}tools" must be a list', path=self._path), tools.start
            )
        names = [self._text(self._member(tool, "type")) or "tools" for tool in tools.items]
        return next((name for name in names if name != "function"), "")

    def _tier(self, body: Node) -> str:
        node, asked = self._member(body, "service_tier"), self._defaults.service_tier
        if node.kind is Kind.NULL and asked is not None and self._kind.bounds:
            self._put_in(body, "service_tier", asked)
        bounded = node.kind is Kind.NULL or self._text(node) in (*_BOUNDED_TIERS, asked)
        return "" if bounded else "service_tier"

    def _modality(self, body: Node) -> str:
        node = self._member(body, "modalities")
        plain = all(self._text(item) == "text" for item in node.items)
        return "" if node.kind is Kind.NULL or (node.kind is Kind.ARRAY and plain) else "modalities"

    def _pin(self, body: Node) -> str:
        """The providers that alone may serve it. Without `allow_fallbacks: false` any may."""
        told = self._member(body, "provider")
        if self._member(told, "allow_fallbacks").kind is not Kind.FALSE:
            return ""
        lists = (self._member(told, key).items for key in ("only", "order"))
        tags = next(([self._text(tag) for tag in tags] for tags in lists if tags), [])
        sound = all(tag and tag.isprintable() and "," not in tag for tag in tags)
        return ",".join(filter(None, tags)) if sound else ""

    def _cut_around(self, body: Node) -> None:
        self._edits.append(Edit(0, body.start, b""))
        self._edits.append(Edit(body.stop, len(self._line), b""))

    def _name(self, node: Node, where: str) -> str:
        text = self._text(node)
        if text is None or not 0 < len(text) <= LONGEST_NAME:
            told = N_(
                '"{where}" must be a string of 1 to {most} characters',
                where=where,
                most=LONGEST_NAME,
            )
            raise Flaw("input.field", told, node.start)
        if UNSAFE.search(text):
            told = N_('"{where}" has a control or bidirectional character; remove it', where=where)
            raise Flaw("input.field", told, node.start)
        return text

    def _member(self, node: Node, key: str) -> Node:
        member = node.members.get(key)
        return _ABSENT if member is None else member.value

    def _text(self, node: Node) -> str | None:
        return text_of(self._line, node) if node.kind is Kind.STRING else None

    def _raw(self, node: Node) -> bytes:
        return self._line[node.start : node.stop]


def _check_encoding(line: bytes) -> None:
    if line.startswith(b"\0\0\0\0"):
        told = N_("the line begins with zero bytes: it was not fully written; write it again")
        raise Flaw("input.encoding", told, 0)
    if b"\0" in line[:4]:
        told = N_("the line is not UTF-8 but looks like UTF-16 or UTF-32; save the file as UTF-8")
        raise Flaw("input.encoding", told, 0)
    if line.startswith(_BOM):
        told = N_(
            "there is a byte order mark in the middle of the file; remove it (bytes EF BB BF)"
        )
        raise Flaw("input.encoding", told, 0)
    try:
        line.decode()
    except UnicodeDecodeError as error:
        told = N_("the line is not valid UTF-8; save the file as UTF-8")
        raise Flaw("input.encoding", told, error.start) from None


_CONTENTS: dict[str, Callable[[_Rules, Node], tuple[list[Node], str]]] = {
    CHAT.url: _Rules._messages,  # noqa: SLF001
    RESPONSES.url: _Rules._items,  # noqa: SLF001
    EMBEDDINGS.url: _Rules._plain,  # noqa: SLF001
    COMPLETIONS.url: _Rules._plain,  # noqa: SLF001
}
"""What is asked, and the first thing in it that no size bounds."""

_IN_TURNS = (CHAT, RESPONSES)
"""Kinds of which each part is framed by a template."""


def _cut(node: Node, key: str) -> Edit:
    """Takes a member out, with the comma that goes with it."""
    members = list(node.members.items())
    place = next(place for place, (name, _) in enumerate(members) if name == key)
    member = members[place][1]
    if place + 1 < len(members):
        return Edit(member.start, members[place + 1][1].start, b"")
    before = members[place - 1][1].value.stop if place else member.start
    return Edit(before, member.value.stop, b"")


def _free_texts(line: bytes, body: Node) -> Iterator[tuple[int, int]]:
    for key in _FREE_KEYS:
        if key in body.members:
            yield from _texts(line, body.members[key].value)


def _texts(line: bytes, node: Node) -> Iterator[tuple[int, int]]:
    """A blank one is told of, so it belongs to the form of its line."""
    if node.kind is Kind.STRING and not is_blank(line, node.start):
        yield node.start, node.stop
    for item in node.items:
        yield from _texts(line, item)
    for key, member in node.members.items():
        if key not in _JUDGED_KEYS:
            yield from _texts(line, member.value)


def _printable(text: str) -> str:
    return ascii(text[:40])[1:-1]
