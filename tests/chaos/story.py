"""A small history in which nothing is wrong, for tests to break: two users and every kind of outcome."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from tests.chaos.history import Ask, Bill, Connection, Event, Exchange, Fault, History

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
MARKERS = {"user-a": "mk" + "a" * 16, "user-b": "mk" + "b" * 16}
_SPACE = UUID(int=7)


class Story:
    """Writes a history as a Logue that works would have caused it. Turns are named by their keys."""

    def __init__(self) -> None:
        self.history = History(seed=1, began_at=BEGAN.timestamp(), users=dict(MARKERS))
        self.asks: dict[str, Ask] = {}
        self.stored: dict[str, dict[str, Any]] = {}
        #: (user, conversation) → messages.
        self.lists: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.now = 0.0
        self._bill: dict[str, list[dict[str, int]]] = {}
        self._views = 0

    def ask(self, key: str, conversation: str, user: str = "user-a", **fields: Any) -> Ask:
        """A client is about to send a message."""
        values = {"answer": "context", "parent_id": None, "on_busy": "enqueue", "kind": "stream", **fields}
        marker = MARKERS[user]
        message = f"{{{{{values['answer']}}}}} {marker} {key}"
        known = (user, conversation) in self.lists
        self.now += 1
        ask = Ask(key, user, message=message, conversation_id=conversation if known else None, at=self.now, **values)
        if values["answer"] == "echo":
            ask.echo = f"{marker} {key}"
        self.asks[key] = ask
        self.history.add(ask)
        return ask

    def store(self, key: str, conversation: str, status: str, parent: str | None, code: str = "", cut: int = 0) -> None:
        """The turn ends; `parent` is the id of a message, `cut` where the reply of a cancelled turn breaks off."""
        ask = self.asks[key]
        messages = self.lists.setdefault((ask.user, conversation), [])
        question = self._message(key, "user", ask.message, parent, status, at=ask.at)
        messages.append(question)
        reply = self._answer(messages, question) if ask.answer == "context" else ask.echo
        reply = reply if status == "completed" else reply[:cut]
        usage = None
        if status == "completed":
            usage = {"prompt_tokens": 3, "completion_tokens": len(reply), "total_tokens": 3 + len(reply)}
            self._bill.setdefault(ask.message, []).append(usage)
        message = None
        if reply:
            listed = self._message(key, "assistant", reply, question["id"], status, at=ask.at + 0.5) | {"usage": usage}
            messages.append(listed)
            message = {name: listed[name] for name in ("id", "role", "content", "parent_id", "created_at")}
        ran = code != "conversation_busy"
        self.stored[key] = {
            "turn_id": id_of("turn", key),
            "conversation_id": conversation,
            "status": status,
            "attempt": 1,
            "requested_at": time_of(ask.at),
            "started_at": time_of(ask.at + 0.1) if ran else None,
            "first_token_at": time_of(ask.at + 0.2) if reply else None,
            "finished_at": time_of(ask.at + 0.5),
            "message": message,
            "usage": usage,
            "error": {"code": code} if code else None,
        }

    def stream(self, key: str, *, breaks_after: int = 0, reset: bool = False, first: bool = True) -> None:
        """A client shows the turn from its beginning: by POST, or if not `first`, on resume."""
        stored, ask = self.stored[key], self.asks[key]
        self._views += 1
        content = stored["message"]["content"] if stored["message"] else ""
        pieces = [content[n : n + 30] for n in range(0, len(content), 30)]
        told: list[tuple[str, dict[str, Any]]] = [("message.delta", {"delta": piece}) for piece in pieces]
        if reset:
            told = [*told[:2], ("message.reset", {"attempt": 2, "reason": "superseded"}), *told]
        if first:
            ids = {"turn_id": stored["turn_id"], "conversation_id": stored["conversation_id"]}
            told.insert(0, ("turn.started", {**ids, "user_message_id": id_of("user", key)}))
        else:
            told = [("message.snapshot", {"content": content})] if content else []
        told.append(self._end(key))
        events = [
            Event(ask.at + 0.15 + n / 100, name, f"{n}.{self._views}.{stored['turn_id']}", copy.deepcopy(data))
            for n, (name, data) in enumerate(told)
        ]
        for begin, end in ((0, breaks_after), (breaks_after, len(events))) if breaks_after else ((0, len(events)),):
            self.history.add(
                Connection(
                    view=self._views,
                    user=ask.user,
                    key=key,
                    turn_id=stored["turn_id"],
                    method="POST" if first and not begin else "GET",
                    gateway="http://gateway-0",
                    last_event_id=events[begin - 1].id if begin else "",
                    began=ask.at + begin / 100,
                    ended=events[end - 1].at,
                    status=200,
                    correlation_id=stored["turn_id"],
                    ending="left" if end < len(events) else "closed",
                    events=events[begin:end],
                )
            )

    def exchange(self, what: str, subject: str, status: int | None, body: Any, **fields: Any) -> None:
        user = fields.pop("user", "user-a")
        began = fields.pop("began", self.now)
        ended = began + 0.01
        fields.setdefault("correlation_id", None)
        self.history.add(
            Exchange(
                user,
                what,
                subject,
                "http://gateway-1",
                began,
                ended=ended,
                status=status,
                **fields,
                body=copy.deepcopy(body),
            )
        )

    def settle(self) -> None:
        """Everything is read back."""
        self.now += 10
        for user in MARKERS:
            mine = [conversation for owner, conversation in self.lists if owner == user]
            self.exchange("conversations", user, 200, {"items": [{"id": each} for each in mine]}, user=user, final=True)
        for (user, conversation), messages in self.lists.items():
            for page in (messages[:3], messages[3:]):
                self.exchange("messages", conversation, 200, {"items": page}, user=user, final=True)
        for key, stored in self.stored.items():
            self.exchange("turn", stored["turn_id"], 200, stored, user=self.asks[key].user, final=True)
        self.history.add(Bill(self.now, BEGAN.timestamp() - 5, self._bill))
        self.history.settled_at = self.now + 1

    def _end(self, key: str) -> tuple[str, dict[str, Any]]:
        stored = self.stored[key]
        if stored["status"] == "completed":
            shared = ("turn_id", "conversation_id", "status", "message", "usage")
            return "message.completed", {name: stored[name] for name in shared} | {"model": "demo"}
        if stored["status"] == "cancelled":
            content = stored["message"]["content"] if stored["message"] else ""
            return "turn.cancelled", {"turn_id": stored["turn_id"], "content": content}
        return "turn.failed", {"turn_id": stored["turn_id"], "code": stored["error"]["code"]}

    def _message(
        self, key: str, role: str, content: str, parent: str | None, status: str, *, at: float
    ) -> dict[str, Any]:
        return {
            "id": id_of(role, key),
            "turn_id": id_of("turn", key),
            "parent_id": parent,
            "role": role,
            "content": content,
            "status": status,
            "created_at": time_of(at),
            "usage": None,
        }

    def _answer(self, messages: list[dict[str, Any]], question: dict[str, Any]) -> str:
        by_id = {message["id"]: message for message in messages}
        path, message = [], question
        while message is not None:
            path.append({"role": message["role"], "sha256": sha256(message["content"].encode()).hexdigest()})
            message = by_id.get(message["parent_id"])
        return json.dumps(path[::-1], separators=(",", ":"))


def id_of(kind: str, key: str) -> str:
    """Of a turn, of its messages (user, assistant), or of a conversation."""
    return str(uuid5(_SPACE, f"{kind} {key}"))


def time_of(at: float) -> str:
    return (BEGAN + timedelta(seconds=at)).isoformat()


def valid_history() -> History:
    """Nothing is wrong with it."""
    story = Story()
    talk, other, theirs = (id_of("conversation", name) for name in ("talk", "other", "theirs"))
    story.ask("one", talk)
    story.store("one", talk, "completed", None)
    story.stream("one", breaks_after=3)
    story.stream("one", first=False)
    story.ask("two", talk)
    story.exchange("cancel", id_of("turn", "two"), 202, {"turn_id": id_of("turn", "two")})
    story.store("two", talk, "cancelled", id_of("assistant", "one"), cut=50)
    story.stream("two", reset=True)
    story.ask("three", talk, answer="none", kind="failing")
    story.store("three", talk, "failed", id_of("assistant", "two"), code="model_error")
    story.exchange("chat", "three", 502, story.stored["three"]["error"] | {"turn_id": id_of("turn", "three")})
    story.exchange("messages", talk, 200, {"items": list(story.lists["user-a", talk])})
    story.ask("four", talk)
    story.store("four", talk, "completed", id_of("assistant", "two"))
    story.exchange("turn", id_of("turn", "four"), 200, story.stored["four"])
    story.exchange("chat", "four", 503, {"code": "accept_unknown", "turn_id": id_of("turn", "four")})
    story.exchange("chat", "four", 202, {"turn_id": id_of("turn", "four"), "conversation_id": talk, "status": "queued"})
    story.ask("five", talk, parent_id=id_of("assistant", "one"))
    story.store("five", talk, "completed", id_of("assistant", "one"))
    story.stream("five")
    story.ask("six", talk, on_busy="reject")
    story.store("six", talk, "failed", None, code="conversation_busy")
    story.stream("six")
    story.ask("never acknowledged", talk)
    story.exchange("chat", "never acknowledged", None, None, broken="ClientOSError")
    story.ask("seven", other, answer="echo")
    story.store("seven", other, "completed", None)
    body = {name: story.stored["seven"][name] for name in ("turn_id", "conversation_id", "status", "message", "usage")}
    story.exchange("chat", "seven", 200, body, correlation_id=id_of("turn", "seven"))
    story.ask("eight", theirs, user="user-b")
    story.store("eight", theirs, "completed", None)
    story.stream("eight")
    story.exchange("resume", id_of("turn", "eight"), 204, None, user="user-b")
    story.history.add(Fault("kill", "agent-0", 2.0, 2.5))
    story.settle()
    return story.history
