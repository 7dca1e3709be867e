"""What a request can be refused for, and the one shape in which every refusal is answered.

    RefusedError
    |-- InvalidInputError        422   a field breaks a rule
    |-- ForbiddenError           403   the token does not allow it
    |-- UnknownSymbolError       404   no such contract here
    |-- ContradictingBarError    409   a bar differs from the stored one
    |-- ContradictingRowError    409   a trade or snapshot differs from the one that was taken
    |-- NotConfiguredError       409   the server was started without what this needs
    |-- ForecastUnavailableError 422   the bars of the request do not carry a forecast
    |-- UnknownOverrideError     404   no such order
    |-- OverrideConflictError    409   the order's state, or who asks, does not allow this
    |-- NotReadyError            503   what this needs is not there yet; try again
    `-- StoreBusyError           503   the store did not answer in time; try again

``serving.edge`` adds what is known before a request is read: 401, 403, 404, 405, 413, 415, and maps the rest.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any, ClassVar

from bentoml.exceptions import BentoMLException

_LONGEST_VALUE = 120


def error_body(
    code: str,
    message: str,
    remedy: str,
    *,
    field: str | None = None,
    value: object = None,
    row: int | None = None,
) -> dict[str, Any]:
    """The shape of every refusal. ``field`` is a path such as ``bars.3.close``; ``row`` counts from 0 and is
    there where a row is to blame; ``value`` is what was found, shortened, and text where JSON has no such
    number."""
    error: dict[str, Any] = {
        "code": code,
        "message": message,
        "field": field,
        "value": shown(value),
        "remedy": remedy,
    }
    if row is not None:
        error["row"] = row
    return {"error": error}


def shown(value: object) -> object:
    """A value as an error may carry it: strict JSON, and short."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # A reader in another language holds no larger ones.
        return value if abs(value) < 2**53 else f"a whole number of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str, allow_nan=True)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


class RefusedError(BentoMLException):  # type: ignore[misc] # bentoml has no types
    """A request that is refused. Its text is the JSON of ``error_body``, which the edge sends as it is."""

    code: ClassVar[str]
    status: ClassVar[HTTPStatus]

    def __init__(
        self,
        message: str,
        remedy: str,
        *,
        field: str | None = None,
        value: object = None,
        row: int | None = None,
    ) -> None:
        self.body = error_body(self.code, message, remedy, field=field, value=value, row=row)
        super().__init__(json.dumps(self.body), error_code=self.status)


class InvalidInputError(RefusedError):
    code, status = "invalid_input", HTTPStatus.UNPROCESSABLE_ENTITY


class ForbiddenError(RefusedError):
    code, status = "forbidden", HTTPStatus.FORBIDDEN


class UnknownSymbolError(RefusedError):
    code, status = "unknown_symbol", HTTPStatus.NOT_FOUND


class ContradictingBarError(RefusedError):
    code, status = "contradicting_bar", HTTPStatus.CONFLICT


class ContradictingRowError(RefusedError):
    code, status = "contradicting_row", HTTPStatus.CONFLICT


class NotConfiguredError(RefusedError):
    code, status = "not_configured", HTTPStatus.CONFLICT


class ForecastUnavailableError(RefusedError):
    code, status = "forecast_unavailable", HTTPStatus.UNPROCESSABLE_ENTITY


class UnknownOverrideError(RefusedError):
    code, status = "unknown_override", HTTPStatus.NOT_FOUND


class OverrideConflictError(RefusedError):
    code, status = "override_conflict", HTTPStatus.CONFLICT


class NotReadyError(RefusedError):
    code, status = "not_ready", HTTPStatus.SERVICE_UNAVAILABLE


class StoreBusyError(RefusedError):
    code, status = "store_busy", HTTPStatus.SERVICE_UNAVAILABLE
