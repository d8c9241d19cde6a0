"""Role passwords."""

from __future__ import annotations

import pytest

from logue_common.errors import StartupError
from logue_conversation.roles import API, Login, scram_verifier


def test_the_verifier_is_the_one_that_postgresql_makes() -> None:
    # SELECT rolpassword after ALTER ROLE … PASSWORD 'pencil' with this salt (RFC 7677 has the same user and salt)
    verifier = scram_verifier("pencil", bytes.fromhex("5b6d99689d123958c5ac9b0b1b2c3d4e"))
    method, salt, keys = verifier.split("$")
    assert (method, salt) == ("SCRAM-SHA-256", "4096:W22ZaJ0SOVjFrJsLGyw9Tg==")
    stored, server = keys.split(":")
    assert len(stored) == len(server) == 44
    assert "pencil" not in verifier


@pytest.mark.parametrize(
    "url", ["postgresql://postgres:x@h/d", "postgresql://logue_api@h/d", "postgresql://logue_api:p%C3%A4ss@h/d"]
)
def test_an_unusable_login_is_refused(url: str) -> None:
    with pytest.raises(StartupError):
        Login.from_url(url, API, "LOGUE_DATABASE_URL")
