"""A worker's settings: what is refused, and the key that is never shown (S2, S4, S14)."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.address import DEFAULT_BASE_URL
from jobs.errors import UsageError
from workers.worker_settings import api_key, worker_settings

KEY = "canary-key-5f3a9c"
REDIS = "redis://:canary-password@127.0.0.1:6379/0"


@pytest.fixture
def good(tmp_path: Path) -> dict[str, str]:
    """All that a worker needs."""
    secret = tmp_path / "post.secret"
    secret.touch(0o600)
    secret.write_text("a secret of thirty-two characters")
    return {
        "NIGHTSHIFT_REDIS_URL": REDIS,
        "ROUTERAI_API_KEY": KEY,
        "NIGHTSHIFT_HOME": str(tmp_path),
    }


def key_file(folder: Path, content: bytes, mode: int = 0o600) -> dict[str, str]:
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return {"NIGHTSHIFT_API_KEY_FILE": str(path)}


def test_what_is_left_out_has_its_default(good: dict[str, str], tmp_path: Path) -> None:
    found = worker_settings(good)

    assert (found.base_url, found.chunks) == (DEFAULT_BASE_URL, 64)
    assert found.scratch == tmp_path / "worker"
    assert found.api_key == KEY


def test_s2_neither_the_key_nor_the_password_shows(good: dict[str, str]) -> None:
    found = worker_settings(good)

    assert "canary" not in repr(found)
    assert "canary" not in str(found)
    assert "canary" not in found.target.key


def test_the_fingerprint_tells_keys_apart(good: dict[str, str]) -> None:
    other = worker_settings({**good, "ROUTERAI_API_KEY": "another"})
    assert other.target.key != worker_settings(good).target.key


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"NIGHTSHIFT_REDIS_URL": ""}, id="no Redis"),
        pytest.param({"ROUTERAI_API_KEY": " "}, id="no key"),
        pytest.param({"NIGHTSHIFT_OPEN_CHUNKS": "many"}, id="chunks: no number"),
        pytest.param({"NIGHTSHIFT_OPEN_CHUNKS": "0"}, id="chunks: none"),
        pytest.param({"NIGHTSHIFT_OPEN_CHUNKS": "-3"}, id="chunks: less than none"),
        pytest.param({"NIGHTSHIFT_OPEN_CHUNKS": "²"}, id="chunks: no plain digit"),
        pytest.param({"NIGHTSHIFT_BASE_URL": "http://example.com/v1"}, id="S4 key in the clear"),
        pytest.param({"NIGHTSHIFT_BASE_URL": "nowhere"}, id="no address"),
        pytest.param({"ROUTERAI_API_KEY": "canary\nX-Other: 1"}, id="a header in the key"),
        pytest.param({"ROUTERAI_API_KEY": "canary-ключ"}, id="a key that no header can carry"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(
    good: dict[str, str], changes: dict[str, str]
) -> None:
    with pytest.raises(UsageError) as raised:
        worker_settings({**good, **changes})

    assert raised.value.exit_code == 2
    assert "canary" not in f"{raised.value.message} {raised.value.hint}"


def test_the_key_may_stand_in_a_file_of_the_owners_own(tmp_path: Path) -> None:
    assert api_key(key_file(tmp_path, b" " + KEY.encode() + b"\n")) == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_s14_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UsageError, match="others may read") as raised:
        api_key(key_file(tmp_path, KEY.encode(), mode))
    assert raised.value.hint.startswith("chmod 600")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"two words"])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match="valid key"):
        api_key(key_file(tmp_path, content))


def test_a_key_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        api_key({"NIGHTSHIFT_API_KEY_FILE": str(tmp_path / "none")})
