"""A stored body, brought in line with what its row says since: another model, another bound."""

from __future__ import annotations

import msgspec

from batch.reading.json_scan import Kind, Node, scan, text_of
from batch.reading.line_rules import Edit, edited
from jobs.request_kinds import CHAT, KINDS, answers_in


def in_line(
    body: bytes, model: str, max_output: int | None, limit: str | None = None, kind: str = CHAT.url
) -> bytes:
    """The body with this model, and answers of at most so many tokens together; None: as it stands.

    `limit` is what that is called where a chat request does not say it. `body` is one that the
    rules accepted. What else stands in it stays byte for byte.
    """
    root, bounds = scan(body), KINDS[kind].bounds
    if max_output is not None and KINDS[kind].many:
        max_output = max(max_output // answers_in(msgspec.json.decode(body)), min(max_output, 1))
    if limit is None or kind != CHAT.url:
        limit = next(iter(bounds), None)
    edits = _model(body, root, model)
    if limit is not None:
        edits += _bound(body, root, max_output, limit, bounds)
    return edited(body, 0, len(body), tuple(sorted(edits, key=lambda edit: edit.start)))


def _model(body: bytes, root: Node, model: str) -> list[Edit]:
    node = root.members["model"].value
    if text_of(body, node) == model:
        return []
    return [Edit(node.start, node.stop, msgspec.json.encode(model))]


def _bound(
    body: bytes, root: Node, most: int | None, limit: str, bounds: tuple[str, ...]
) -> list[Edit]:
    told = [root.members[key].value for key in bounds if key in root.members]
    told = [node for node in told if node.kind is not Kind.NULL]
    if most is None or (told and max(int(body[each.start : each.stop]) for each in told) == most):
        return []
    if told:
        return [Edit(node.start, node.stop, b"%d" % most) for node in told]
    if limit in root.members:
        null = root.members[limit].value
        return [Edit(null.start, null.stop, b"%d" % most)]
    return [Edit(root.start + 1, root.start + 1, b'"%b":%d,' % (limit.encode(), most))]
