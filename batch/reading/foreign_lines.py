"""What a line is that is no chat request: the forms of other services, data sets and results.

Only lines that the rules refused are looked at. A form that can be rewritten without loss names
the jq program that does it; the commands are run by the tests.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import msgspec

from jobs.message import N_, NOTHING, Message
from jobs.request import Form
from jobs.request_kinds import CHAT, KINDS, kind_by_shape, kind_of

_TEXTS = (
    *("prompt", "question", "query", "text", "content", "review", "comment", "sentence"),
    *("description", "title", "message", "body", "input"),
)
"""Names that a column of texts goes by, the likeliest first."""

_LONGEST_KEY = 40
_KEYS_TOLD = 4


def form_of_line(line: bytes) -> Form | None:
    """What a refused line is; None where no form is known, or it is a chat request with a fault."""
    text = line.strip(b" \t\r\0")
    if _is_windows_1251(text):
        return Form(
            told=N_("text in Windows-1251, not UTF-8"),
            hint=N_("convert it to UTF-8:"),
            command=("iconv", "-f", "WINDOWS-1251", "-t", "UTF-8"),
            whole=True,
        )
    try:
        return form_of(msgspec.json.decode(text))
    except (ValueError, RecursionError):
        return _form_of_text(text)


def form_of(value: object) -> Form | None:
    """The same of a JSON value."""
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return _list(value)
    if not isinstance(value, dict) or not value:
        return None
    if (form := _langchain(value)) is not None:
        return form
    if _is_request(value):
        return None
    return next(filter(None, (look(value) for look in _LOOKS)), None)


def jq(program: str) -> tuple[str, ...]:
    """The command that rewrites each line by a program."""
    return ("jq", "-c", program)


def command_line(form: Form, source: str) -> str:
    """What to type, for a file of this name; "" where no command helps.

    It writes to a file beside the source, never to the source.
    """
    if not form.command or form.alone:
        return shlex.join(form.command)
    if form.command[0] == "nightshift":
        program, word, *options = form.command
        return shlex.join((program, word, source, *options))
    words, name = shlex.join(form.command), PurePath(source).name
    stem = name.split(".")[0] or name
    written = f"> {shlex.quote(f'{stem}.requests.jsonl')}"
    unpack = next((how for ending, how in _UNPACK.items() if name.lower().endswith(ending)), "")
    if source == "-":
        return f"… | {words} {written}"
    if unpack and form.command[0] not in _BY_NAME:
        return f"{unpack} {shlex.quote(source)} | {words} {written}"
    return f"{words} {shlex.quote(source)} {written}"


_UNPACK = {".gz": "gzip -dc", ".zst": "zstd -dc"}
_BY_NAME = ("tar", "unzip", "git", "7z", "unrar")
"""Programs that read a file by its name, packed or not."""


# ── Lines that are not JSON ──────────────────────────────────────────────────────────────────────


def _form_of_text(text: bytes) -> Form | None:
    if text.endswith(b",") and _is_json(text[:-1]):
        return Form(
            told=N_("JSON with a comma after each line"),
            hint=N_("put each request on its own line, without a comma:"),
            command=("sed", "s/,[[:space:]]*$//"),
            whole=True,
        )
    if _CONFLICT.match(text):
        return Form(
            told=N_("an unresolved merge conflict"),
            hint=N_("resolve it in Git, then try again"),
            whole=True,
        )
    if _PYTHON.match(text):
        return Form(
            told=N_("Python dict literals, not JSON"),
            hint=N_("convert them with json.dumps:"),
            command=("python3", "-c", _FROM_PYTHON),
        )
    if text[:1] == b"{" and _holds_several(text):
        return Form(
            told=N_("several JSON objects on one line"),
            hint=N_("put each request on its own line:"),
            command=jq("."),
        )
    return None


_FROM_PYTHON = (
    "import ast,json,sys; [print(json.dumps(ast.literal_eval(line),ensure_ascii=False))"
    ' for line in open((sys.argv+[0])[1],encoding="utf-8") if line.strip()]'
)


def _is_windows_1251(text: bytes) -> bool:
    """No UTF-8, and what is not ASCII in it is Cyrillic for the most part if it is that."""
    try:
        text.decode()
    except UnicodeDecodeError:
        letters = sum(byte >= 0xC0 or byte in (0xA8, 0xB8) for byte in text)
        return 10 * letters >= 9 * sum(byte >= 0x80 for byte in text)
    return False


_CONFLICT = re.compile(rb"(?:<{7}|>{7}) |={7}$")
_PYTHON = re.compile(rb"\{\s*'[^']*'\s*:")


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _holds_several(text: bytes) -> bool:
    for part in (b"}{", b"} {", b"},{", b"}, {", b"}\t{"):
        at = text.find(part)
        if at >= 0 and _is_json(text[: at + 1]):
            return True
    return False


# ── Strings and lists ────────────────────────────────────────────────────────────────────────────


def _string(value: str) -> Form:
    with suppress(ValueError, RecursionError):
        if isinstance(msgspec.json.decode(value), dict | list):
            return Form(
                told=N_("double-encoded JSON: each line is a string that contains JSON"),
                hint=N_("decode it once:"),
                command=jq("fromjson"),
            )
    return Form(
        told=N_("one JSON string per line"),
        hint=N_(
            "turn each into a request, adding your own instructions; set the model with --model:"
        ),
        command=jq('{messages: [{role: "user", content: .}]}'),
    )


def _list(value: list[Any]) -> Form | None:
    if not value:
        return None
    if all(map(_is_message, value)):
        return Form(
            told=N_("lists of messages without the surrounding request"),
            hint=N_("turn each into a request; set the model with --model:"),
            command=jq("{messages: .}"),
        )
    return array_of(value[0])


def array_of(first: object) -> Form:
    """A JSON array in place of lines, by its first element."""
    program = ".[]"
    inner = form_of(first)
    if inner is not None and inner.command[:1] == ("jq",):
        program = f".[] | {inner.command[-1]}"
    return Form(
        told=N_("a JSON array, not one request per line"),
        hint=N_("put each element on its own line:") if program == ".[]" else _hint(inner),
        command=jq(program),
        whole=True,
    )


def spread(value: object) -> Form:
    """Values that are spread over several lines, by the first of them."""
    inner = form_of(value)
    program = inner.command[-1] if inner is not None and inner.command[:1] == ("jq",) else "."
    return Form(
        told=N_("JSON spread over several lines, not one request per line"),
        hint=N_("put each request on its own line:") if program == "." else _hint(inner),
        command=jq(program),
        whole=True,
    )


def _hint(form: Form | None) -> Message:
    return form.hint if form else NOTHING


# ── Objects ──────────────────────────────────────────────────────────────────────────────────────

_Object = dict[str, Any]


def _is_request(value: _Object) -> bool:
    body, url = value.get("body", value), value.get("url")
    if not isinstance(body, dict):
        return False
    kind = kind_of(url) if isinstance(url, str) and url else kind_by_shape(body)
    return isinstance(body.get(CHAT.asks), list) if kind is CHAT else kind is not None


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and "content" in value


def _only(value: object, keys: Collection[str]) -> bool:
    return isinstance(value, dict) and all(key in keys or value[key] is None for key in value)


def _is_text(content: object) -> bool:
    """A string, or parts that are but text."""
    if isinstance(content, list):
        return all(_only(part, ("type", "text")) and part.get("type") == "text" for part in content)
    return isinstance(content, str)


def _batch_object(value: _Object) -> Form | None:
    if value.get("object") != "batch" and "input_file_id" not in value:
        return None
    return Form(
        told=N_("a batch object, not its requests"),
        hint=N_("use the file that was uploaded for it (its input_file_id)"),
    )


def _results(value: _Object) -> Form | None:
    answered = value.get("response", value.get("result"))
    in_batch = ("response" in value or "result" in value) and ("custom_id" in value)
    of_gemini = isinstance(answered, dict) and ("candidates" in answered)
    alone = isinstance(value.get("choices"), list) or value.get("type") == "message"
    if not (in_batch or of_gemini or alone):
        return None
    failed = answered is None and not alone
    return Form(
        told=N_("batch results, not requests") if not failed else N_("batch errors, not requests"),
        hint=N_(
            "use the original input file; to retry the failed requests of a Nightshift job:"
            " nightshift resume JOB --retry failed"
        ),
    )


def _error(value: _Object) -> Form | None:
    if not (set(value) <= {"error", "detail", "message", "code", "status", "type", "request_id"}):
        return None
    if "error" not in value and "detail" not in value:
        return None
    return Form(
        told=N_("a server's error message, not requests"),
        hint=N_("the download failed; download the file again"),
    )


def _anthropic(value: _Object) -> Form | None:
    params = value.get("params")
    if not isinstance(params, dict) or "messages" not in params:
        return None
    return Form(
        told=N_("Anthropic Message Batches requests (custom_id, params)"),
        hint=N_(
            "convert them to chat requests, nothing is lost (model names: --model-map OLD=NEW):"
        )
        if _plain_anthropic(params)
        else N_(
            "convert them to chat requests (custom_id, body); tools, images and"
            " Anthropic-specific options must be rewritten by hand"
        ),
        command=jq(_FROM_ANTHROPIC) if _plain_anthropic(params) else (),
    )


def _plain_anthropic(params: _Object) -> bool:
    known = ("model", "max_tokens", "messages", "system", "temperature", "top_p")
    messages, system = params["messages"], params.get("system")
    return (
        _only(params, known)
        and isinstance(messages, list)
        and all(_is_message(each) and _is_text(each["content"]) for each in messages)
        and (system is None or _is_text(system))
    )


_FROM_ANTHROPIC = (
    '{custom_id, body: (.params | .messages = [.system // empty | {role: "system", content: .}]'
    " + .messages | del(.system))}"
)


def _gemini(value: _Object) -> Form | None:
    request = value.get("request", value)
    if not isinstance(request, dict) or "contents" not in request:
        return None
    plain = _plain_gemini(request) and isinstance(value.get("key", ""), str)
    return Form(
        told=N_("Gemini or Vertex AI requests (contents)"),
        hint=N_("convert them to chat requests, nothing is lost; set the model with --model:")
        if plain
        else N_(
            "convert them to chat requests (custom_id, body); files, tools and Gemini-specific"
            " options must be rewritten by hand"
        ),
        command=jq(_from_gemini(value)) if plain else (),
    )


def _plain_gemini(request: _Object) -> bool:
    contents = request["contents"]
    return (
        _only(request, ("contents", "systemInstruction", "system_instruction"))
        and isinstance(contents, list)
        and all(map(_plain_content, contents))
        and all(
            _plain_content(request[key])
            for key in ("systemInstruction", "system_instruction")
            if request.get(key) is not None
        )
    )


def _plain_content(content: object) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("parts"), list):
        return False
    known = content.get("role", "user") in ("user", "model", "system")
    return known and all(
        _only(part, ("text",)) and isinstance(part.get("text"), str) for part in content["parts"]
    )


def _from_gemini(value: _Object) -> str:
    words = 'content: ([.parts[].text] | join(""))'
    name = "custom_id: .key, " if "key" in value else ""
    within = ".request | " if "request" in value else ""
    system = f'(.systemInstruction // .system_instruction // empty | {{role: "system", {words}}})'
    role = 'role: (if .role == "model" then "assistant" else "user" end)'
    return f"{{{name}messages: [{within}{system}, (.contents[] | {{{role}, {words}}})]}}"


def _bedrock(value: _Object) -> Form | None:
    if not isinstance(value.get("modelInput"), dict):
        return None
    return Form(
        told=N_("Amazon Bedrock batch inference requests (recordId, modelInput)"),
        hint=N_("convert them to chat requests: custom_id, and a body with model and messages"),
    )


def _encoded(value: _Object) -> Form | None:
    for key in ("body", "messages"):
        inner = value.get(key)
        with suppress(ValueError, RecursionError):
            if isinstance(inner, str) and isinstance(msgspec.json.decode(inner), dict | list):
                return Form(
                    told=N_('requests whose "{key}" is JSON encoded as a string', key=key),
                    hint=N_("decode it once:"),
                    command=jq(f".{key} |= fromjson"),
                )
    return None


def _elsewhere(value: _Object) -> Form | None:
    """Requests of other kinds than ours, by their address."""
    url = value.get("url")
    path = url.rstrip("/") if isinstance(url, str) else ""
    if not path or kind_of(path):
        return None
    return Form(
        told=N_("requests for {path}", path=_short(path)),
        hint=N_("supported are {urls}", urls=", ".join(KINDS)),
    )


def _sharegpt(value: _Object) -> Form | None:
    for key in ("conversations", "conversation", "items", "dialog"):
        turns = value.get(key)
        if isinstance(turns, list) and turns and all(map(_is_turn, turns)):
            return Form(
                told=N_("ShareGPT conversations (from, value)"),
                hint=N_(
                    "turn each into a request; --drop-last-assistant removes the answer that is"
                    " already there; set the model with --model:"
                ),
                command=jq(
                    f"{{messages: [.{key}[] | {{role: ({{human: "
                    '"user", gpt: "assistant", chatgpt: "assistant", bing: "assistant"}[.from]'
                    " // .from), content: .value}]}"
                ),
            )
    return None


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("from"), str) and "value" in value


def _nested(value: _Object) -> Form | None:
    """A list of messages or a whole body that stands under a name of its own."""
    for key, inner in value.items():
        if not key.isidentifier() or key in ("chosen", "rejected"):
            continue
        if isinstance(inner, list) and inner and all(map(_is_message, inner)):
            return Form(
                told=N_('messages under the key "{key}"', key=_short(key)),
                hint=N_("turn each into a request; set the model with --model:"),
                command=jq(f"{{messages: .{key}}}"),
            )
        if isinstance(inner, dict) and isinstance(inner.get("messages"), list):
            return Form(
                told=N_('requests under the key "{key}"', key=_short(key)),
                hint=N_("move them to body:"),
                command=jq(f"{{custom_id, body: .{key}}}" if "custom_id" in value else f".{key}"),
            )
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            program = array_of(inner[0]).command[-1].removeprefix(".[]")
            return Form(
                told=N_('one JSON object with a list under the key "{key}"', key=_short(key)),
                hint=N_("put each element on its own line:"),
                command=jq(f".{key}[]{program}"),
                whole=True,
            )
    return None


def _langchain(value: _Object) -> Form | None:
    """Messages whose role is told by `type`, as LangChain writes them."""
    messages = value.get("messages")
    if not (isinstance(messages, list) and messages and all(map(_is_typed, messages))):
        return None
    name = "custom_id, " if "custom_id" in value else ""
    return Form(
        told=N_("LangChain messages (type, content)"),
        hint=N_("give each message a role; set the model with --model:"),
        command=jq(
            f"{{{name}messages: [.messages[] | {{role: ({{human: "
            '"user", ai: "assistant"}[.type] // .type), content}]}'
        ),
    )


def _is_typed(value: object) -> bool:
    known = ("human", "ai", "system")
    return isinstance(value, dict) and value.get("type") in known and "role" not in value


def _thread(value: _Object) -> Form | None:
    if value.get("object") != "thread.message":
        return None
    return Form(
        told=N_("messages of the Assistants API (thread.message)"),
        hint=N_("turn each into a request; set the model with --model:"),
        command=jq(
            '{messages: [{role, content: ([.content[].text.value // empty] | join("\\n"))}]}'
        ),
    )


def _cohere(value: _Object) -> Form | None:
    body = value.get("body", value)
    if not (isinstance(body, dict) and isinstance(body.get("message"), str)):
        return None
    if "chat_history" not in body and "model" not in body:
        return None
    return Form(
        told=N_("Cohere chat requests (message, chat_history)"),
        hint=N_("convert them to chat requests, with messages instead of message and chat_history"),
    )


def _message(value: _Object) -> Form | None:
    if not _is_message(value):
        return None
    return Form(
        told=N_("one message per line without the surrounding request"),
        hint=N_(
            "turn each into a request (or all into one: jq -s -c '{messages: .}'); set the model"
            " with --model:"
        ),
        command=jq("{messages: [.]}"),
    )


def _alpaca(value: _Object) -> Form | None:
    if not isinstance(value.get("instruction"), str):
        return None
    return Form(
        told=N_("Alpaca records (instruction, input, output)"),
        hint=N_("turn each instruction into a request; set the model with --model:"),
        command=jq(
            '{messages: [{role: "user", content: ([.instruction, .input // empty]'
            ' | map(select(. != "")) | join("\\n\\n"))}]}'
        ),
    )


def _record(value: _Object) -> Form | None:
    """An object of texts and figures: a row of a table."""
    if "body" in value and not isinstance(value["body"], str):
        return None
    texts = {
        key: each
        for key, each in value.items()
        if isinstance(each, str) and key not in ("custom_id", "id", "url", "method", "model")
    }
    if not texts or "messages" in value:
        return None
    column = text_column({key: len(each) for key, each in texts.items()})
    return Form(
        told=N_("data records ({columns}), not requests", columns=columns(list(value))),
        hint=EACH_ROW,
        command=ask_each_row(column),
    )


EACH_ROW = N_("give a prompt for each row, with column names in double braces:")


def ask_each_row(column: str) -> tuple[str, ...]:
    """The command that does so, for a column of texts."""
    name = column if column.isidentifier() else f"row[{json.dumps(column, ensure_ascii=False)}]"
    prompt = f"Classify this: {{{{ {name} }}}}"
    return ("nightshift", "run", "--model", "minimax/minimax-m1", "--prompt", prompt)


def text_column(sizes: dict[str, int]) -> str:
    """The column that holds the text to ask about: by its name, else the longest."""
    known = {key.lower(): key for key in sizes}
    named = next((known[name] for name in _TEXTS if name in known), None)
    return named if named is not None else max(sizes, key=lambda key: sizes[key])


def columns(names: list[str]) -> str:
    """The first names, printable."""
    more = ", …" if len(names) > _KEYS_TOLD else ""
    return ", ".join(map(_short, names[:_KEYS_TOLD])) + more


def _path(key: str) -> str:
    plain = key.isidentifier() and key.isascii()
    return f".{key}" if plain else f".[{msgspec.json.encode(key).decode()}]"


def _short(text: str) -> str:
    shown = "".join(each if each.isprintable() else "�" for each in text[:_LONGEST_KEY])
    return shown if len(text) <= _LONGEST_KEY else f"{shown}…"


_LOOKS: tuple[Callable[[_Object], Form | None], ...] = (
    *(_batch_object, _results, _error, _anthropic, _gemini, _bedrock, _encoded, _elsewhere),
    *(_thread, _cohere, _sharegpt, _nested, _message, _alpaca, _record),
)
