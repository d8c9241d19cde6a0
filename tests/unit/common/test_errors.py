"""Problems: one shape, stable codes."""

from __future__ import annotations

import pytest

from logue_common.errors import PROBLEMS, LogueError, ProblemError, StartupError, UnreadableRecordError, problem


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_code_makes_a_problem(code: str) -> None:
    made = problem(code, "Do this.", correlation_id="turn-1")
    status, title, retryable = PROBLEMS[code]
    assert made.model_dump(exclude_none=True) == {
        "type": f"urn:logue:problem:{code}",
        "title": title,
        "status": status,
        "detail": "Do this.",
        "code": code,
        "retryable": retryable,
        "correlation_id": "turn-1",
    }


def test_what_is_worth_retrying_is_no_fault_of_the_request() -> None:
    never = {code for code, (status, _, retryable) in PROBLEMS.items() if retryable and status in (400, 401, 403, 404)}
    assert never == set()


def test_an_unknown_code_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        problem("no_such_code", "Do this.")


def test_a_problem_error_carries_status_code_headers_and_fields() -> None:
    field_errors = [{"loc": ["message"], "msg": "too long"}]
    error = ProblemError("validation_error", "Shorten it.", headers={"Retry-After": "1"}, errors=field_errors)
    assert (error.status, error.code, str(error)) == (422, "validation_error", "Shorten it.")
    assert error.problem.errors == field_errors
    assert error.headers == {"Retry-After": "1"}
    assert ProblemError("not_found", "Look elsewhere.").headers == {}


@pytest.mark.parametrize("kind", [ProblemError, UnreadableRecordError, StartupError])
def test_every_error_is_one_of_ours(kind: type[Exception]) -> None:
    assert issubclass(kind, LogueError)
