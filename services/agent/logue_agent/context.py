"""Recent conversations, as trees of messages, so that a known conversation needs no call before its first token.

An entry is complete from the root to every message in it, and is valid only while its partition is read without a
break; the subscriber drops a partition's entries when it loses the partition.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from logue_agent.trim import Line, Said
from logue_common.events import ChatReplied, ChatRequested
from logue_common.internal import ContextMessage

ROOT = "root"

#: Bookkeeping per message, beside its text, and per conversation.
_MESSAGE_OVERHEAD, _CONVERSATION_OVERHEAD = 600, 800


@dataclass(slots=True)
class Conversation:
    """A cached conversation. `leaf` is the reply of the latest turn that has one and did not fail;
    it is unknown after a path to some other message was fetched.
    """

    user_id: str
    partition: int
    leaf: str | None
    leaf_known: bool = True
    messages: dict[str, Said] = field(default_factory=dict)
    size: int = _CONVERSATION_OVERHEAD
    #: The path that grew last: nearly always the one that is asked for next.
    _line: Line = field(default_factory=Line)

    def add(self, message: ContextMessage) -> int:
        """Add a message unless it is known; returns by how much the size grew."""
        if message.id in self.messages:
            return 0
        said = self.messages[message.id] = Said.of(message)
        if said.parent_id == self._line.leaf:
            self._line.add(said)
        grown = _MESSAGE_OVERHEAD + said.characters
        self.size += grown
        return grown

    def parent_of_new(self, requested: str | None) -> str | None:
        """The parent that a new user message gets. Raises KeyError when `requested` is not cached."""
        if requested == ROOT:
            return None
        if requested is None:
            if not self.leaf_known:
                raise KeyError("leaf")
            return self.leaf
        return self.messages[requested].id

    def path(self, message_id: str | None) -> Line:
        """The messages from the root to `message_id`. Raises KeyError when one is not cached."""
        if message_id != self._line.leaf:
            newest_first: list[Said] = []
            at = message_id
            while at is not None:
                newest_first.append(self.messages[at])
                at = newest_first[-1].parent_id
            self._line = Line(reversed(newest_first))
        return self._line


class ContextCache:
    """The most recently used conversations, bounded by the characters of their messages."""

    def __init__(self, max_characters: int) -> None:
        self._max = max_characters
        self._size = 0
        self._entries: OrderedDict[str, Conversation] = OrderedDict()

    def __len__(self) -> int:
        """Number of conversations held."""
        return len(self._entries)

    def get(self, conversation_id: str) -> Conversation | None:
        """The conversation, if it is cached."""
        entry = self._entries.get(conversation_id)
        if entry is not None:
            self._entries.move_to_end(conversation_id)
        return entry

    def put(
        self,
        conversation_id: str,
        user_id: str,
        partition: int,
        messages: Sequence[ContextMessage] = (),
        *,
        ends_in_leaf: bool,
    ) -> Conversation:
        """Replace what is known of a conversation by a path from its root, which may end in its leaf."""
        self.drop(conversation_id)
        entry = Conversation(user_id, partition, messages[-1].id if messages else None, ends_in_leaf)
        self._entries[conversation_id] = entry
        self._size += entry.size
        for message in messages:
            self._size += entry.add(message)
        self._shrink()
        return entry

    def decided(self, request: ChatRequested, outcome: ChatReplied) -> None:
        """Take in the outcome of a turn of a cached conversation."""
        reply = outcome.message
        entry = self._entries.get(request.conversation_id)
        if entry is None or reply is None or outcome.status == "failed":
            return
        if outcome.parent_id is not None and outcome.parent_id not in entry.messages:
            self.drop(request.conversation_id)  # a branch that this cache does not hold
            return
        question = ContextMessage(
            id=request.user_message_id, parent_id=outcome.parent_id, role="user", content=request.content
        )
        answer = ContextMessage(id=reply.id, parent_id=reply.parent_id, role="assistant", content=reply.content)
        self._size += entry.add(question) + entry.add(answer)
        # Only turns that ran have a reply, and they ran in the order of the lane: this one is the latest.
        entry.leaf, entry.leaf_known = answer.id, True
        self._shrink()

    def drop(self, conversation_id: str) -> None:
        """Forget a conversation."""
        entry = self._entries.pop(conversation_id, None)
        if entry is not None:
            self._size -= entry.size

    def drop_partition(self, partition: int) -> None:
        """Forget all conversations of a partition that is no longer read."""
        for conversation_id in [key for key, entry in self._entries.items() if entry.partition == partition]:
            self.drop(conversation_id)

    def _shrink(self) -> None:
        while self._size > self._max and len(self._entries) > 1:
            _, entry = self._entries.popitem(last=False)
            self._size -= entry.size
