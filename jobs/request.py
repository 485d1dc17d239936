"""One valid input line, and what is wrong with one that is not."""

from __future__ import annotations

import msgspec

from jobs.message import Message
from jobs.request_kinds import CHAT

HIDDEN_TOKENS = 1024
"""Room for what the endpoint adds to a prompt; about 447 hidden tokens were observed."""

TOKENS_PER_MESSAGE = 64
"""Room for the frame that a chat template puts around each message."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request as it will be sent.

    `body` is the JSON that goes out, UTF-8, as it came in but for defaults put in where the line
    left them out. `messages` is their number, `max_output` the most tokens of all its answers, if
    told. `kind` is the address of what is asked (`jobs.request_kinds`).
    `unbounded` names the part of the body whose cost no size bounds (images, plugins), if any.
    `odd` are sentences about what is sent and surely not meant. `pin` names the only providers that
    may serve it, by tag, a comma between; "" for any.
    """

    line: int
    custom_id: str
    model: str
    body: bytes
    messages: int
    max_output: int | None
    unbounded: str = ""
    odd: tuple[str, ...] = ()
    pin: str = ""
    kind: str = CHAT.url

    @property
    def prompt_bound(self) -> int:
        """Tokens that the prompt cannot exceed: a byte-level tokenizer makes no more than bytes."""
        return len(self.body) + TOKENS_PER_MESSAGE * self.messages + HIDDEN_TOKENS


class Form(msgspec.Struct, frozen=True):
    """Another form than ours in which requests, texts or a whole file come.

    `told` completes the sentence "the file holds …", `hint` says what helps. `command` is what
    does it: the words of a program that reads the file, its last argument, and writes requests.
    `alone`: it is complete as it stands. `whole`: no line of such a file stands for itself, so none
    is ever sent.
    """

    told: Message
    hint: Message
    command: tuple[str, ...] = ()
    alone: bool = False
    whole: bool = False


class Fault(msgspec.Struct, frozen=True):
    """Why a line was refused.

    `line` counts from 1, `code` is one of `input.*` (docs/input.md), `offset` is the byte within
    the line where it shows, if known. `form` is what the line is instead, if that is known.
    """

    line: int
    code: str
    message: Message
    offset: int | None = None
    custom_id: str | None = None
    form: Form | None = None
