"""Words at a job's end and at its trouble: what they say, that they arrive, once, and when late."""

from __future__ import annotations

import email
import email.policy
import hmac
import json
import logging
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from batch import language
from batch.language import capital
from batch.notifications import channels, delivery_log, http_post, mail, telegram, webhook
from batch.notifications.notification import TEST, occasion, text, title, word_of
from batch.notifications.notifier import Teller
from batch.store import delivery_ledger
from batch.store.incidents import Trouble
from batch.store.jobstore import JobStore
from jobs.job_options import Budget
from jobs.message import Message
from jobs.notify import Notify
from jobs.pause_reasons import PauseReason
from jobs.states import JobState
from tests.batch.making import JOB, call, delivery, feed, publish, result
from tests.batch.servers import Hook, MailBox, hook, mail_box
from tests.loopback import dripping

_BY_ITSELF = (
    PauseReason.USER,
    PauseReason.CAP_REACHED,
    PauseReason.WINDOW_CLOSED,
    PauseReason.DEADLINE,
)
"""Pauses that the user made, or that end without them."""

SECRETS = {
    webhook.SECRET: "canary-hook",
    telegram.TOKEN: "123:canary-bot",
    mail.SMTP_PASSWORD: "canary-mail",
}


@pytest.fixture
def there() -> Iterator[Hook]:
    with hook() as one:
        yield one


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def job_at(folder: Path, **notify: str | None) -> JobStore:
    """A job whose user is to hear of it."""
    return publish(
        folder,
        2,
        name="secret-free",
        budget=Budget(rub=Decimal(5)),
        notify=Notify(**notify),
    )


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def pause(store: JobStore, reason: PauseReason, words: str = "") -> None:
    store.set_state(JobState.PAUSED, reason=reason, text=Message(words))


# ---- when, and what ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "event"),
    [
        *((reason, "") for reason in _BY_ITSELF),
        *((reason, f"paused.{reason.value}") for reason in PauseReason if reason not in _BY_ITSELF),
    ],
)
def test_the_user_hears_of_pauses_that_need_them(
    tmp_path: Path, reason: PauseReason, event: str
) -> None:
    store = job_at(tmp_path)
    pause(store, reason)

    assert occasion(store.job()) == event


def test_a_word_holds_counts_and_money_but_nothing_from_outside(tmp_path: Path) -> None:
    store = job_at(tmp_path)
    pause(store, PauseReason.KEY_REJECTED, "the endpoint says: your prompt was 'canary'")

    word = word_of(store.job(), "paused.key_rejected", store.why())

    assert (word["requests"], word["left"], word["spent_rub"]) == (2, 2, "0")
    assert word["budget_rub"] == "5"
    assert "canary" not in json.dumps(word) + text(word) + title(word)
    assert f"nightshift resume {JOB}" in text(word)


@pytest.mark.parametrize("reason", [each for each in PauseReason if each.rule.needs_action])
def test_each_pause_is_told_with_its_cause_and_what_helps(
    tmp_path: Path, reason: PauseReason
) -> None:
    store = job_at(tmp_path)
    store.keep_troubles([Trouble("endpoint.no_quota", 1.0, 1)])
    pause(store, reason, "the figures of it")

    told = text(word_of(store.job(), f"paused.{reason}", store.why()))
    assert capital(reason.rule.meaning) in told
    assert ("The figures of it." in told) != reason.rule.quotes
    assert ("last problem: the rate limit for this model is 0" in told) == reason.rule.quotes
    assert told.splitlines()[-2].endswith(":")
    assert told.splitlines()[-1].startswith("nightshift ")
    assert JOB in told.splitlines()[-1] or "budget" in told.splitlines()[-1]


def test_people_are_told_in_their_language(tmp_path: Path) -> None:
    store = job_at(tmp_path)
    pause(store, PauseReason.BUDGET_EXHAUSTED)
    language.use("ru")
    try:
        word = word_of(store.job(), "paused.budget_exhausted", store.why())

        assert title(word) == "secret-free: пауза, требуется действие"
        assert text(word).startswith("Бюджет исчерпан.\nответов 0 из 2\n")
        assert f"\nпродолжить с большим бюджетом:\nnightshift resume {JOB}" in text(word)
        assert word["state"] == "paused"
    finally:
        language.use("en")


# ---- the ways ------------------------------------------------------------------------------------


def test_a_webhook_gets_json_with_a_signature_that_can_be_checked(there: Hook) -> None:
    channels.send("url", f"{there.url}/hook?a=1", {"event": TEST, "job": JOB}, "name-1", SECRETS)

    (post,) = there.posts
    signed = f"{post.headers['X-Nightshift-Timestamp']}.".encode() + post.body
    expected = hmac.new(b"canary-hook", signed, "sha256").hexdigest()
    assert post.path == "/hook?a=1"
    assert post.headers["X-Nightshift-Signature"] == f"sha256={expected}"
    assert post.headers["X-Nightshift-Delivery"] == "name-1"
    assert post.json == {"event": TEST, "job": JOB}
    assert b"canary" not in post.body


def test_a_webhook_that_sends_elsewhere_is_not_followed() -> None:
    with hook(302) as there, pytest.raises(http_post.Undelivered, match="HTTP 302"):
        channels.send("url", there.url, {"event": TEST, "job": ""}, "a", SECRETS)
    assert len(there.posts) == 1


def test_telegram_is_written_to_and_its_token_is_told_nobody(there: Hook) -> None:
    there.answers.append(401)
    environ = {**SECRETS, telegram.URL: there.url}

    with pytest.raises(http_post.Undelivered) as caught:
        channels.send("telegram", "-1001", {"event": TEST, "job": ""}, "a", environ)
    channels.send("telegram", "-1001", {"event": TEST, "job": ""}, "a", environ)

    assert str(caught.value) == "Telegram answers HTTP 401"
    assert {post.path for post in there.posts} == {"/bot123:canary-bot/sendMessage"}
    assert there.posts[1].json["chat_id"] == "-1001"
    assert "job notifications will arrive here" in there.posts[1].json["text"]


def test_a_mail_says_who_and_what_and_logs_in(tmp_path: Path) -> None:
    store = job_at(tmp_path)
    store.set_state(JobState.CANCELLING)
    store.set_state(JobState.CANCELLED, now=1.0)
    with mail_box() as box:
        send_mail(box, word_of(store.job(), "cancelled", store.why()))

    (raw,) = box.mails
    told = email.message_from_bytes(raw, policy=email.policy.default)
    assert (told["From"], told["To"]) == ("night@example.org", "me@example.org")
    assert told["Subject"] == "secret-free: cancelled"
    assert "0 of 2 requests answered" in told.get_content()
    assert box.logins == [(False, "night@example.org", SECRETS[mail.SMTP_PASSWORD])]


def send_mail(box: MailBox, word: dict[str, object], host: str = "127.0.0.1") -> None:
    environ = {**SECRETS, mail.SMTP_URL: f"smtp://night%40example.org@{host}:{box.port}"}
    channels.send("mail", "me@example.org", word, "name", environ)


@pytest.fixture
def abroad(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host is taken for this machine: mail goes over a network."""
    monkeypatch.setattr(http_post, "HERE", frozenset())


@pytest.mark.usefixtures("abroad")
def test_over_a_network_a_mail_and_its_password_go_behind_starttls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem, key = str(tmp_path / "pem"), str(tmp_path / "key")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9"]
    subprocess.run([*new, *names, "-keyout", key, "-out", pem], check=True, capture_output=True)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(pem, key)

    with mail_box(theirs) as box:
        with pytest.raises(http_post.Undelivered, match="SSLCertVerificationError"):
            send_mail(box, {"event": TEST}, "localhost")
        assert (box.logins, box.mails) == ([], [])

        monkeypatch.setenv("SSL_CERT_FILE", pem)
        send_mail(box, {"event": TEST}, "localhost")

    assert box.logins == [(True, "night@example.org", SECRETS[mail.SMTP_PASSWORD])]
    assert (len(box.mails), box.recipients) == (1, ["me@example.org"])


@pytest.mark.usefixtures("abroad")
def test_over_a_network_nothing_is_told_to_a_server_without_starttls() -> None:
    with mail_box() as box, pytest.raises(http_post.Undelivered, match="SMTPNotSupportedError"):
        send_mail(box, {"event": TEST})

    assert (box.logins, box.mails) == ([], [])


def test_a_name_cannot_add_headers_to_a_mail(tmp_path: Path) -> None:
    store = publish(tmp_path, 2, name="a\r\nBcc: all@example.org\r\n\r\nbody")
    with mail_box() as box:
        send_mail(box, word_of(store.job(), "completed", store.why()))

    told = email.message_from_bytes(box.mails[0], policy=email.policy.default)
    assert told["Bcc"] is None
    assert box.recipients == ["me@example.org"]


@pytest.mark.parametrize(
    ("way", "address", "words"),
    [
        ("url", "http://127.0.0.1:1/secret-path", "the webhook does not answer"),
        ("telegram", "1", "NIGHTSHIFT_TELEGRAM_TOKEN is not set"),
        ("mail", "me@example.org", "NIGHTSHIFT_SMTP_URL is not set"),
    ],
)
def test_what_does_not_arrive_says_why_and_no_address(way: str, address: str, words: str) -> None:
    with pytest.raises(http_post.Undelivered) as caught:
        channels.send(way, address, {"event": TEST, "job": ""}, "a", {})

    assert str(caught.value).startswith(words)
    assert "secret-path" not in str(caught.value)


def test_a_mail_that_is_refused_says_so() -> None:
    with mail_box() as box:
        box.refuses = True
        with pytest.raises(http_post.Undelivered, match="SMTPRecipientsRefused"):
            send_mail(box, {"event": TEST})


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    with pytest.raises(http_post.Undelivered, match="others may read"):
        http_post.secret({"A_FILE": str(file)}, "A")
    file.chmod(0o600)

    assert http_post.secret({"A_FILE": str(file), "A": "from-variable"}, "A") == "from-file"
    with pytest.raises(http_post.Undelivered, match="cannot be read"):
        http_post.secret({"A_FILE": str(tmp_path / "none")}, "A")


@pytest.mark.parametrize(
    "notify",
    [
        {"url": "http://example.org/hook"},
        {"url": "ftp://example.org"},
        {"url": "https://user:canary@example.org/"},
        {"url": "https://exa mple.org/"},
        {"url": "https://"},
        {"telegram": "12 OR 1"},
        {"telegram": "@a/../b"},
        {"mail": "a@b\r\nBcc: c@d"},
        {"mail": "nobody"},
    ],
)
def test_an_address_that_is_none_is_refused(notify: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Notify.model_validate(notify)


# ---- told once, and not lost ---------------------------------------------------------------------


def test_each_occasion_is_told_once_on_every_way_also_after_a_restart(
    tmp_path: Path, there: Hook
) -> None:
    store = job_at(tmp_path, url=there.url)
    for _turn in range(2):
        teller = Teller(tmp_path / "jobs")
        teller.start()
        for _look in range(3):
            teller.see(store)
        pause(store, PauseReason.BUDGET_EXHAUSTED) if _turn == 0 else None
        for _look in range(3):
            teller.see(store)
        teller.close()

    assert [post.json["event"] for post in there.posts] == ["paused.budget_exhausted"]


def test_the_same_trouble_after_going_on_is_told_again(tmp_path: Path, there: Hook) -> None:
    store = job_at(tmp_path, url=there.url)
    teller = Teller(tmp_path / "jobs")
    for _time in range(2):
        pause(store, PauseReason.BUDGET_EXHAUSTED)
        teller.see(store)
        store.set_state(JobState.IN_PROGRESS)
        teller.see(store)
    teller.close()

    names = {post.headers["X-Nightshift-Delivery"] for post in there.posts}
    assert len(there.posts) == len(names) == 2


def test_a_word_that_did_not_arrive_is_sent_later_by_whoever_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery_log, "_FIRST_PAUSE_S", 0.01)
    with hook(500) as there:
        store = job_at(tmp_path, url=there.url)
        pause(store, PauseReason.KEY_REJECTED)
        with caplog.at_level(logging.WARNING):
            first = Teller(tmp_path / "jobs")
            first.see(store)
            first.close()
        until("the first try", lambda: len(there.posts) == 1)

        second = Teller(tmp_path / "jobs")
        second.start()
        until("the second try", lambda: len(there.posts) == 2)
        second.close()

    tries = [post.headers["X-Nightshift-Delivery"] for post in there.posts]
    assert tries[0] == tries[1]
    assert "the webhook answers HTTP 500; retrying" in caplog.text
    assert not delivery_log.read(tmp_path / "jobs" / JOB).waits


def test_tries_come_to_an_end() -> None:
    letter = delivery_log.Letter("a", "url", "https://example.org", {})
    waited, now = 0.0, 0.0
    while letter.waits:
        letter.missed(now)
        waited, now = waited + letter.due_at - now, letter.due_at

    assert letter.tries == delivery_log.MOST_TRIES
    assert 3600 < waited < 12 * 3600


def test_a_way_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()

    def hang(*_args: object) -> None:
        ends.wait(60)

    monkeypatch.setattr(channels, "send", hang)
    store = job_at(tmp_path, url="https://example.org")
    pause(store, PauseReason.KEY_REJECTED)
    teller, began = Teller(tmp_path / "jobs"), time.monotonic()

    teller.see(store)

    assert time.monotonic() - began < 30
    ends.set()
    teller.close()


def test_a_book_that_is_not_ours_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "notices.json").write_bytes(b"\xff{")

    assert delivery_log.read(tmp_path) == delivery_log.Book()


def test_a_webhook_whose_head_drips_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_post, "PATIENCE_S", 0.3)
    with (
        dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ") as port,
        pytest.raises(http_post.Undelivered, match="TimeoutError"),
    ):
        channels.send("url", f"http://127.0.0.1:{port}/", {"event": "x", "job": ""}, "n", {})


def test_failures_are_told_by_code_without_the_endpoints_words(tmp_path: Path) -> None:
    store = job_at(tmp_path)
    feed(store, 2)
    failed = [result(n, code="endpoint.context_length", message="canary") for n in (0, 1)]
    delivery_ledger.apply(store, [delivery([call(0), call(1, cost=None)], failed, bodies=[])])

    word = word_of(store.job(), "completed", store.why())

    assert word["failures"] == [
        {"code": "endpoint.context_length", "status": 400, "requests": 2, "lines": [1, 2]}
    ]
    assert "2 × endpoint.context_length (HTTP 400), first in lines 1, 2" in text(word)
    assert "cost at least 0.50 ₽, and 1 call of unknown cost" in text(word)
    assert text(word).endswith(f"nightshift failures {JOB}")
    assert "canary" not in json.dumps(word) + text(word)
