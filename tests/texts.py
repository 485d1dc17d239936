"""Requests with honest text of four kinds: for whatever judges by the text, such as estimates."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "app-descriptions.jsonl"
MODEL = "minimax/minimax-m1"
KINDS = ("descriptions", "prose", "code", "mixed")

_SENTENCES = """
夜班处理信件队列,城市正在沉睡。
请把下面的评论分类为正面、负面或中性。
这个应用程序可以离线使用,但同步有时会失败。
価格は税込みで、送料は別途かかります。
昨日の夜に注文した商品がまだ届いていません。
このアプリは light mode と dark mode の両方に対応しています。
배송이 예정보다 이틀 늦었지만 상태는 좋았습니다.
The battery lasts two days, 但是充电很慢。
Заказ № 48-211 пришёл без коробки, оплачено 1 290,50 ₽.
Error 0x80070057: the parameter is incorrect (see log.txt, line 312).
Ürün beklediğimden küçük geldi, ama rengi güzel.
Το πακέτο έφτασε ανοιχτό και λείπει το φυλλάδιο.
القائمة الرئيسية لا تعمل على الهواتف القديمة 🙁
Отличный магазин!!! Рекомендую всем 👍👍
""".strip().splitlines()


def bodies(kind: str, count: int = 400) -> list[bytes]:
    """Bodies of requests with text of a kind, the same ones each time."""
    return [
        json.dumps(
            {"model": MODEL, "messages": messages, "max_tokens": 600}, ensure_ascii=False
        ).encode()
        for messages in _messages(kind, count)
    ]


def lines(kind: str, count: int = 400) -> bytes:
    """The same as an input file; bare bodies."""
    return b"".join(body + b"\n" for body in bodies(kind, count))


def _messages(kind: str, count: int) -> Iterator[list[dict[str, str]]]:
    dice = random.Random(kind)
    described = _described()
    for number in range(count):
        if kind == "descriptions":
            yield described[number % len(described)]
        elif kind == "prose":
            parts = [each[-1]["content"] for each in dice.sample(described, dice.randrange(3, 12))]
            yield _asked("Перескажи одним абзацем.", "\n\n".join(parts))
        elif kind == "code":
            source = dice.choice(_sources())
            start = dice.randrange(max(len(source) - 40, 1))
            excerpt = "\n".join(source[start : start + dice.randrange(20, 160)])
            yield _asked("Review this code.", f"```python\n{excerpt}\n```")
        else:
            yield _asked("分类", " ".join(dice.choices(_SENTENCES, k=dice.randrange(2, 40))))


def _asked(system: str, user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _described() -> list[list[dict[str, str]]]:
    with EXAMPLE.open(encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return [line.get("body", line)["messages"] for line in found]


def _sources() -> list[list[str]]:
    # Of what seldom changes: an estimate of other text is another.
    files = sorted((ROOT / "benchmarks").rglob("*.py"))
    return [file.read_text(encoding="utf-8").splitlines() for file in files]
