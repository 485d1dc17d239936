"""The body of a chat request, as far as the server looks into it."""

import json
from dataclasses import dataclass, field
from typing import Any

from . import other_endpoints
from .book import canonical
from .refusals import RefusedError, refusal


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat request that has the right shape, or one that amounts to it (`form`: what it was, with
    `asked` as it came, and so many `answers` to be billed). `canonical` is what its messages hash
    from.
    """

    model: str
    messages: list[Any]
    canonical: bytes
    max_tokens: int | None
    forced_tool: str | None
    fields: dict[str, Any]
    form: str = other_endpoints.CHAT
    answers: int = 1
    asked: dict[str, Any] = field(default_factory=dict)

    def last_user_text(self) -> str:
        """The text of the last user message, its parts joined."""
        for message in reversed(self.messages):
            if isinstance(message, dict) and message.get("role") == "user":
                return _text(message.get("content"))
        return ""

    def user_text(self) -> str:
        """The texts of all user messages."""
        users = (each for each in self.messages if isinstance(each, dict))
        return "\n".join(_text(each.get("content")) for each in users if each.get("role") == "user")

    @property
    def wants_json(self) -> bool:
        """Whether `response_format` asks for JSON."""
        form = self.fields.get("response_format")
        return isinstance(form, dict) and form.get("type") in ("json_object", "json_schema")

    @property
    def schema(self) -> Any:
        """That of `response_format`, also as responses have it; None: none is told."""
        form = self.fields.get("response_format")
        if not isinstance(form, dict) or form.get("type") != "json_schema":
            return None
        inner = form.get("json_schema", form)
        return inner.get("schema") if isinstance(inner, dict) else None

    def preferred_providers(self) -> tuple[list[str], bool]:
        """The providers named in `provider`, lower case, and whether others may serve too."""
        wish = self.fields.get("provider")
        if not isinstance(wish, dict):
            return [], True
        only = [str(each).lower() for each in wish.get("only") or ()]
        order = [str(each).lower() for each in wish.get("order") or ()]
        return only or order, not only and wish.get("allow_fallbacks", True) is not False


def read_chat(raw: bytes, form: str = other_endpoints.CHAT) -> Chat:
    """The request in `raw`, or `RefusedError` with a 400 that says what is wrong."""
    asked = _object(raw)
    fields = other_endpoints.as_chat(form, asked)
    model, messages = fields.get("model"), fields.get("messages")
    if not isinstance(model, str) or not model:
        raise _bad("model: a string is required")
    if not isinstance(messages, list) or not messages:
        raise _bad("messages: a list of messages is required")
    if fields.get("stream"):
        raise _bad("stream: this server only answers in one piece")
    return Chat(
        *(model, messages, canonical(messages), _max_tokens(fields), _tool(fields), fields),
        *(form, other_endpoints.answers(form, asked), asked),
    )


def _bad(text: str) -> RefusedError:
    return RefusedError(refusal(400, "params", text=text))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise _bad("the body is not valid JSON") from error
    if not isinstance(fields, dict):
        raise _bad("the body is not a JSON object")
    return fields


def _max_tokens(fields: dict[str, Any]) -> int | None:
    wished = fields.get("max_completion_tokens", fields.get("max_tokens"))
    if wished is None:
        return None
    if not isinstance(wished, int) or isinstance(wished, bool) or wished < 1:
        raise _bad("max_tokens: a whole number above 0 is required")
    return wished


def _tool(fields: dict[str, Any]) -> str | None:
    """The tool that the answer must call, if `tool_choice` demands one."""
    choice = fields.get("tool_choice")
    try:
        if isinstance(choice, dict):
            return str(choice["function"]["name"])
        return str(fields["tools"][0]["function"]["name"]) if choice == "required" else None
    except (KeyError, IndexError, TypeError) as error:
        raise _bad("tools: not a list of functions") from error


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, dict))
    return "\n".join(part for part in parts if isinstance(part, str))
