"""OpenAI's SDK starts quickly and is whole all the same."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys

from workers.calling.sdk_import import AsyncOpenAI

loaded = [name for name in sys.modules if name.startswith("openai.types.")]
assert len(loaded) < 150, len(loaded)
assert not {"openai.types.batch", "openai.types.responses.response"} & set(loaded)

import openai
from openai.types.responses import ResponseInputItem

assert openai.AsyncOpenAI is AsyncOpenAI
assert openai.types.Batch.__name__ == "Batch"
assert openai.types.responses.Response.__name__ == "Response"
assert openai.types.chat.ChatCompletion.__name__ == "ChatCompletion"
assert not hasattr(openai.types, "NoSuchType")
"""


def test_the_sdks_types_are_loaded_only_for_those_who_ask_for_one() -> None:
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True)
