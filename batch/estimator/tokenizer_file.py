"""Exact counts by a tokenizer file of the user's, in Hugging Face's form.

It needs the wheel `tokenizers`, which the base install leaves out. Nothing is ever downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from batch.estimator.character_counts import Shape, shape_of, texts_of
from batch.extras import install_command
from jobs.errors import UsageError
from jobs.message import N_

_decode = msgspec.json.Decoder().decode


def counted_by(path: Path) -> Callable[[bytes], Shape]:
    """The shape of a body, with its text counted by this file; `UsageError` if it is of no use."""
    tokenizer = _load(path)

    def shape(body: bytes) -> Shape:
        text = "\n".join(texts_of(_decode(body)))
        count = len(tokenizer.encode(text, add_special_tokens=False).ids)
        return msgspec.structs.replace(shape_of(body), counted=count)

    return shape


def _load(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(
            N_("{path} is not a file", path=path),
            hint=N_("--tokenizer expects the model's tokenizer.json"),
        )
    try:
        import tokenizers
    except ImportError:
        raise UsageError(
            N_("--tokenizer requires the package tokenizers, which is not installed"),
            hint=N_("install it with: {command}", command=install_command("tokenizers")),
        ) from None
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # its errors have no class of their own
        raise UsageError(
            N_("{path} is not a Hugging Face tokenizer: {why}", path=path, why=error),
            hint=N_("it is the file tokenizer.json among the model's files"),
        ) from error
