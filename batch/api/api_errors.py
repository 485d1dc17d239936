"""What a request is answered with that fails, in the form of OpenAI's API."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refusal; `message` is shown, `param` and `code` are what programs decide by."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code}
        }


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that makes no sense."""
    return ApiError(400, message, param=param, code=code)


def missing(param: str) -> ApiError:
    """A field that must be there."""
    told = f"Missing required parameter: '{param}'."
    return invalid(told, param, "missing_required_parameter")


def wrong_type(param: str, wanted: str, value: object) -> ApiError:
    """A field of another type than it must have."""
    told = f"Invalid type for '{param}': expected {wanted}, but got {_kind(value)} instead."
    return invalid(told, param, "invalid_type")


def wrong_value(param: str, value: object, supported: str) -> ApiError:
    """A field with a value that it cannot have."""
    told = f"Invalid value: '{str(value)[:80]}'. Supported values are: {supported}."
    return invalid(told, param, "invalid_value")


def conflict(message: str) -> ApiError:
    """What stands in the way does not go away: SDKs would try a 409 again."""
    return ApiError(409, message, headers={"x-should-retry": "false"})


def no_file(file_id: str) -> ApiError:
    """There is no such file, or not for this key."""
    return ApiError(404, f"No such File object: {file_id[:100]}", param="id")


def no_batch(batch_id: str) -> ApiError:
    """There is no such batch, or not for this key."""
    return ApiError(404, f"No batch found with id '{batch_id[:100]}'.")


_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "something else")
