"""What a good engineer would write in an afternoon instead of Logue: the yardstick of `make bench`.

One FastAPI service that checks the token, reads the history from PostgreSQL, streams from the model with the openai
package, and writes the reply. It speaks the same requests and events as Logue, so that one client measures both. What
it lacks (resuming, retries that find their turn, stopping, order within a conversation, a reply that outlives its
connection) is what Logue is for.

    DATABASE_URL=… JWT_SECRET=… OPENAI_BASE_URL=… uvicorn tests.bench.reference_monolith:app --workers 2

uvicorn takes uvloop and httptools by itself, since they are installed.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
import jwt
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import StreamingResponse
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (
    id uuid PRIMARY KEY,
    user_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS messages (
    id uuid PRIMARY KEY,
    conversation_id uuid NOT NULL REFERENCES conversations,
    position bigint GENERATED ALWAYS AS IDENTITY,
    role text NOT NULL,
    content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS messages_of_conversation ON messages (conversation_id, position);
"""


class Ask(BaseModel):
    """A question."""

    message: str = Field(min_length=1, max_length=32_000)
    conversation_id: UUID | None = None
    stream: bool = True


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=10, max_size=20)
    async with app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(1)")  # the workers start together
        await connection.execute(SCHEMA)
    app.state.openai = AsyncOpenAI()
    yield
    await app.state.openai.close()
    await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


async def current_user(user_id: str, authorization: Annotated[str, Header()]) -> str:
    """The user of the token, who must be the one of the path."""
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), os.environ["JWT_SECRET"], algorithms=["HS256"])
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "The token is not valid.") from error
    if claims["sub"] != user_id:
        raise HTTPException(403, "The token is another user's.")
    return user_id


@app.post("/api/{user_id}/chat")
async def chat(ask: Ask, user_id: Annotated[str, Depends(current_user)]) -> StreamingResponse:
    """Answer `ask`, as server-sent events."""
    pool = app.state.pool
    if ask.conversation_id is None:
        conversation_id, history = uuid4(), []
    else:
        conversation_id = ask.conversation_id
        rows = await pool.fetch(
            "SELECT m.role, m.content FROM messages m JOIN conversations c ON c.id = m.conversation_id"
            " WHERE c.id = $1 AND c.user_id = $2 ORDER BY m.position",
            conversation_id,
            user_id,
        )
        if not rows:
            raise HTTPException(404, "There is no such conversation.")
        history = [{"role": row["role"], "content": row["content"]} for row in rows]
    return StreamingResponse(_answer(ask, user_id, conversation_id, history), media_type="text/event-stream")


async def _answer(ask: Ask, user_id: str, conversation_id: UUID, history: list[dict[str, str]]) -> AsyncIterator[str]:
    reply_id = uuid4()
    yield _event("turn.started", {"conversation_id": str(conversation_id), "message_id": str(reply_id)})
    pieces: list[str] = []
    completion = await app.state.openai.chat.completions.create(
        model="demo",
        messages=[*history, {"role": "user", "content": ask.message}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in completion:
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            pieces.append(piece)
            yield _event("message.delta", {"delta": piece})
    content = "".join(pieces)
    async with app.state.pool.acquire() as connection, connection.transaction():
        if ask.conversation_id is None:
            await connection.execute(
                "INSERT INTO conversations (id, user_id) VALUES ($1, $2)", conversation_id, user_id
            )
        await connection.executemany(
            "INSERT INTO messages (id, conversation_id, role, content) VALUES ($1, $2, $3, $4)",
            [
                (uuid4(), conversation_id, "user", ask.message),
                (reply_id, conversation_id, "assistant", content),
            ],
        )
    message = {"id": str(reply_id), "role": "assistant", "content": content}
    yield _event("message.completed", {"conversation_id": str(conversation_id), "message": message})


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
