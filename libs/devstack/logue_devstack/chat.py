"""A small terminal chat over the public API, with resume: what `logue chat` does."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from logue_devstack.errors import DevstackError

_TERMINAL = {"message.completed", "turn.failed", "turn.cancelled"}
_RESUME_ATTEMPTS = 20
_STREAM_TIMEOUT_SECONDS = 60.0  # heartbeats come every 15 s


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str
    id: str
    data: dict[str, Any]


class ChatClient:
    """One user at one gateway."""

    def __init__(self, gateway_url: str, user_id: str, token: str) -> None:
        self._address = urlsplit(gateway_url).netloc
        self._base = f"/api/{quote(user_id, safe='')}"
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}

    def ask(self, message: str, conversation_id: str | None) -> Iterator[Event]:
        """Sends a message and yields the events of its turn to the end, through broken connections.

        Raises DevstackError when the gateway refuses or stays away.
        """
        body = json.dumps({"message": message, "conversation_id": conversation_id})
        headers = {"Content-Type": "application/json"}
        seen = turn_id = ""
        for attempt in range(_RESUME_ATTEMPTS):
            if turn_id:
                path, method, content = f"{self._base}/turns/{turn_id}/events", "GET", None
                headers = {"Last-Event-ID": seen}
            else:
                path, method, content = f"{self._base}/chat", "POST", body
            try:
                for event in self._events(method, path, content, headers):
                    turn_id = turn_id or str(event.data.get("turn_id", ""))
                    seen = event.id or seen
                    yield event
                    if event.name in _TERMINAL:
                        return
            except (OSError, http.client.HTTPException) as error:
                if not turn_id:
                    raise DevstackError(f"The gateway at {self._address} does not answer ({error}).") from error
            time.sleep(min(0.25 * (attempt + 1), 2.0))
        raise DevstackError("The stream broke too often; the reply is in the conversation once it is complete.")

    def _events(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Iterator[Event]:
        connection = http.client.HTTPConnection(self._address, timeout=_STREAM_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body.encode() if body else None, self._headers | headers)
            response = connection.getresponse()
            if response.status == 204:
                return
            if response.status != 200:
                raise DevstackError(_refusal(response))
            yield from parse_events(response)
        finally:
            connection.close()


def parse_events(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[Event]:
    """The events in the lines of an SSE body (WHATWG HTML, 9.2)."""
    fields: dict[str, str] = {}
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if not line:
            if "data" in fields:
                yield Event(fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


def run_chat(client: ChatClient) -> None:
    """Reads lines from the terminal and shows replies as they come, until an empty line or the end of input."""
    print("Type a message; an empty line or Ctrl-D ends the chat.")
    conversation_id: str | None = None
    while True:
        try:
            message = input("\nyou   > ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not message:
            return
        print("logue > ", end="", flush=True)
        for event in client.ask(message, conversation_id):
            conversation_id = event.data.get("conversation_id", conversation_id)
            show(event)


def show(event: Event) -> None:
    """Prints what one event changes."""
    match event.name:
        case "message.delta":
            print(event.data["delta"], end="", flush=True)
        case "message.snapshot":
            print(f"\nlogue > {event.data['content']}", end="", flush=True)
        case "message.reset":
            print("\n[starts over]\nlogue > ", end="", flush=True)
        case "turn.queued":
            print(f"[waits behind {event.data['position']}] ", end="", flush=True)
        case "message.completed":
            print()
        case "turn.cancelled":
            print(" [stopped]")
        case "turn.failed":
            print(f"\n[failed: {event.data.get('detail') or event.data.get('title')}]")
        case _:
            pass


def _refusal(response: http.client.HTTPResponse) -> str:
    try:
        problem = json.loads(response.read())
        return f"The gateway refused ({response.status}): {problem.get('detail') or problem.get('title')}"
    except (ValueError, AttributeError):
        return f"The gateway refused ({response.status})."
