"""Debian's `prometheus` (with promtool), and the rule that CI has it."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(sentence: str) -> NoReturn:
    """Skip, or fail where LOGUE_REQUIRE_PROMETHEUS=1."""
    (pytest.fail if os.environ.get("LOGUE_REQUIRE_PROMETHEUS") == "1" else pytest.skip)(sentence)
    raise AssertionError


def _program(name: str) -> str:
    return shutil.which(name) or missing(f"Needs {name}: apt install prometheus (its service may stay stopped).")


@pytest.fixture(scope="session")
def promtool() -> str:
    return _program("promtool")


@pytest.fixture(scope="session")
def prometheus_program() -> str:
    return _program("prometheus")
