"""Notifications as webhooks: our own form, signed, and that of Standard Webhooks."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Mapping

from batch.notifications.http_post import Undelivered, post, secret
from batch.notifications.notification import FOR_PEOPLE, Word
from jobs.message import N_

SECRET = "NIGHTSHIFT_NOTIFY_SECRET"  # noqa: S105  the name of a variable


def send(url: str, word: Word, name: str, environ: Mapping[str, str]) -> None:
    """A word as JSON; with a secret its time and bytes are signed."""
    body = json.dumps({key: each for key, each in word.items() if key not in FOR_PEOPLE}).encode()
    moment = str(int(time.time()))
    headers = {"X-Nightshift-Delivery": name, "X-Nightshift-Timestamp": moment}
    key = secret(environ, SECRET)
    if key:
        headers["X-Nightshift-Signature"] = signature(key, moment, body)
    post(url, body, headers, N_("the webhook"))


def send_standard(url: str, word: Word, name: str, key: str) -> None:
    """An event in the form of Standard Webhooks, as OpenAI sends it: its type and what it is about.

    `key` is `whsec_` and base64. The receiver knows a word that comes twice again by its name.
    """
    event = {"id": f"evt_{name}", "object": "event", **word}
    body, moment = json.dumps(event, separators=(",", ":")).encode(), str(int(time.time()))
    headers = {"webhook-id": f"evt_{name}", "webhook-timestamp": moment}
    if key:
        headers["webhook-signature"] = standard_signature(key, f"evt_{name}", moment, body)
    post(url, body, headers, N_("the webhook"))


def signature(key: str, moment: str, body: bytes) -> str:
    """`sha256=` and the HMAC of `<moment>.<body>`, in hex: what a receiver compares with."""
    return "sha256=" + hmac.new(key.encode(), moment.encode() + b"." + body, "sha256").hexdigest()


def standard_signature(key: str, name: str, moment: str, body: bytes) -> str:
    """`v1,` and the HMAC of `<name>.<moment>.<body>`, in base64."""
    try:
        raw = base64.b64decode(key.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise Undelivered(N_("the webhook's secret is not whsec_ and base64")) from None
    told = hmac.new(raw, f"{name}.{moment}.".encode() + body, "sha256").digest()
    return "v1," + base64.b64encode(told).decode()
