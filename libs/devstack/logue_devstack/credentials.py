"""The secrets of one development machine: made up on the first start, kept in a file only its user can read."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from logue_devstack.errors import DevstackError

TOKEN_SECONDS = 24 * 3600


def _secret() -> str:
    return secrets.token_urlsafe(32)


class Credentials(BaseModel):
    """Every secret that the stack hands to its processes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    jwt_secret: str = Field(default_factory=_secret)
    internal_token: str = Field(default_factory=_secret)
    event_id_secret: str = Field(default_factory=_secret)
    postgres_superuser: str = Field(default_factory=_secret)
    postgres_owner: str = Field(default_factory=_secret)
    postgres_api: str = Field(default_factory=_secret)
    postgres_writer: str = Field(default_factory=_secret)
    postgres_relay: str = Field(default_factory=_secret)

    def token(self, user_id: str, *, seconds: float = TOKEN_SECONDS) -> str:
        """A development token for the user, valid from now on."""
        return sign_token(self.jwt_secret, user_id, seconds=seconds)


def sign_token(secret: str, user_id: str, *, seconds: float = TOKEN_SECONDS) -> str:
    """An HS256 JWT with the claims that the gateway requires."""
    now = int(time.time())
    return jwt.encode({"sub": user_id, "iat": now, "exp": now + int(seconds)}, secret, algorithm="HS256")


def load_credentials(path: Path) -> Credentials:
    """Reads the file, or writes a new one (mode 600); what an older file lacks is added."""
    try:
        known = path.read_bytes()
        credentials = Credentials.model_validate_json(known)
    except FileNotFoundError:
        known, credentials = b"", Credentials()
    except ValidationError as error:
        raise DevstackError(f"{path} is damaged; `logue reset` starts afresh (and deletes the data).") from error
    text = credentials.model_dump_json(indent=2)
    if text.encode() == known:
        return credentials
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)
    return credentials
