"""The context cache: complete paths or none, and a size that adds up."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.unit.agent.events import conversation, replied, requested

from logue_agent.context import ROOT, ContextCache
from logue_common.errors import problem
from logue_common.events import ChatReplied
from logue_common.internal import ContextMessage


def path(*names: str) -> list[ContextMessage]:
    """Messages that follow each other, questions and replies in turn."""
    return [
        ContextMessage(
            id=name,
            parent_id=names[number - 1] if number else None,
            role="assistant" if number % 2 else "user",
            content=f"text of {name}",
        )
        for number, name in enumerate(names)
    ]


def ids(cache: ContextCache, lane: str, leaf: str | None) -> list[str]:
    entry = cache.get(conversation(lane))
    assert entry is not None
    return [message.id for message in reversed(entry.path(leaf)._messages)]


def put(cache: ContextCache, lane: str, *names: str, partition: int = 0, leaf: bool = True) -> None:
    cache.put(conversation(lane), "user-1", partition, path(*names), ends_in_leaf=leaf)


def test_a_new_conversation_grows_by_its_turns() -> None:
    cache = ContextCache(10_000)
    cache.put(conversation("a"), "user-1", 0, ends_in_leaf=True)
    first = requested("1")
    cache.decided(first, replied(first))
    second = requested("2")
    cache.decided(second, replied(second, parent_id=first.reply_message_id))
    entry = cache.get(conversation("a"))
    assert entry is not None
    assert entry.parent_of_new(None) == second.reply_message_id
    assert ids(cache, "a", entry.leaf) == [
        second.reply_message_id,
        second.user_message_id,
        first.reply_message_id,
        first.user_message_id,
    ]


def test_an_unknown_conversation_stays_unknown() -> None:
    cache = ContextCache(10_000)
    request = requested("1")
    cache.decided(request, replied(request))
    assert cache.get(conversation("a")) is None


def test_a_failed_turn_leaves_the_leaf_where_it_was() -> None:
    cache = ContextCache(10_000)
    put(cache, "a", "q", "r")
    request = requested("1")
    cache.decided(request, replied(request, status="failed", message=None, error=problem("model_error", "x")))
    entry = cache.get(conversation("a"))
    assert entry is not None
    assert entry.parent_of_new(None) == "r"
    assert set(entry.messages) == {"q", "r"}


def test_a_cancelled_turn_with_a_partial_reply_is_the_latest() -> None:
    cache = ContextCache(10_000)
    put(cache, "a", "q", "r")
    request = requested("1")
    cache.decided(request, _with_parent(replied(request, "par", status="cancelled"), "r"))
    entry = cache.get(conversation("a"))
    assert entry is not None
    assert entry.parent_of_new(None) == request.reply_message_id
    assert ids(cache, "a", entry.leaf)[-2:] == ["r", "q"]


def test_a_cancelled_turn_without_text_leaves_the_leaf_where_it_was() -> None:
    cache = ContextCache(10_000)
    put(cache, "a", "q", "r")
    request = requested("1")
    cache.decided(request, replied(request, status="cancelled", message=None))
    entry = cache.get(conversation("a"))
    assert entry is not None
    assert entry.parent_of_new(None) == "r"


def test_branches_share_their_trunk() -> None:
    cache = ContextCache(10_000)
    put(cache, "a", "q", "r")
    request = requested("1")
    cache.decided(request, _with_parent(replied(request), "q"))
    entry = cache.get(conversation("a"))
    assert entry is not None
    assert ids(cache, "a", request.reply_message_id) == [request.reply_message_id, request.user_message_id, "q"]
    assert ids(cache, "a", "r") == ["r", "q"]
    assert entry.parent_of_new("r") == "r"
    assert entry.parent_of_new(ROOT) is None


def _with_parent(outcome: ChatReplied, parent_id: str) -> ChatReplied:
    return outcome.model_copy(update={"parent_id": parent_id})


def test_a_turn_on_a_branch_that_is_not_cached_drops_the_conversation() -> None:
    cache = ContextCache(10_000)
    put(cache, "a", "q", "r")
    request = requested("1")
    cache.decided(request, _with_parent(replied(request), "elsewhere"))
    assert cache.get(conversation("a")) is None
    assert (len(cache), cache._size) == (0, 0)


def test_a_parent_that_is_not_cached_is_a_key_error() -> None:
    cache = ContextCache(10_000)
    put(cache, "a", "q", "r")
    entry = cache.get(conversation("a"))
    assert entry is not None
    with pytest.raises(KeyError):
        entry.parent_of_new("elsewhere")
    with pytest.raises(KeyError):
        entry.path("elsewhere")


def test_the_leaf_is_unknown_after_a_path_to_some_other_message() -> None:
    cache = ContextCache(10_000)
    put(cache, "a", "q", "r", leaf=False)
    entry = cache.get(conversation("a"))
    assert entry is not None
    assert entry.parent_of_new("r") == "r"
    with pytest.raises(KeyError):
        entry.parent_of_new(None)
    request = requested("1")
    cache.decided(request, _with_parent(replied(request), "r"))
    assert entry.parent_of_new(None) == request.reply_message_id


def test_the_first_messages_replacement_has_no_parent() -> None:
    cache = ContextCache(10_000)
    put(cache, "a", "q", "r")
    request = requested("1", parent_id=ROOT)
    cache.decided(request, replied(request))
    assert ids(cache, "a", request.reply_message_id) == [request.reply_message_id, request.user_message_id]


def test_the_least_recently_used_conversation_goes_first() -> None:
    cache = ContextCache(5000)
    put(cache, "a", "q", "r")
    put(cache, "b", "q", "r")
    cache.get(conversation("a"))
    put(cache, "c", "q", "r")
    assert [cache.get(conversation(lane)) is not None for lane in "abc"] == [True, False, True]


def test_the_latest_conversation_is_held_however_large_it_is() -> None:
    cache = ContextCache(10)
    put(cache, "a", "q", "r")
    put(cache, "b", "q", "r")
    assert len(cache) == 1
    assert cache.get(conversation("b")) is not None


def test_a_lost_partition_takes_its_conversations_along() -> None:
    cache = ContextCache(10_000)
    put(cache, "a", "q", partition=1)
    put(cache, "b", "q", partition=2)
    put(cache, "c", "q", partition=1)
    cache.drop_partition(1)
    assert [cache.get(conversation(lane)) is not None for lane in "abc"] == [False, True, False]
    cache.drop_partition(2)
    assert (len(cache), cache._size) == (0, 0)


LANES = st.sampled_from("abcd")


class Caching(RuleBasedStateMachine):
    """Whatever happens, the size adds up, stays within bounds, and every path leads to the root."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = ContextCache(6000)
        self.turns = 0

    @rule(lane=LANES, count=st.integers(0, 5), partition=st.integers(0, 2), leaf=st.booleans())
    def put(self, lane: str, count: int, partition: int, leaf: bool) -> None:
        put(self.cache, lane, *(f"{lane}{n}" for n in range(count)), partition=partition, leaf=leaf)

    @rule(lane=LANES, text=st.text(max_size=50), twice=st.booleans(), parent=st.sampled_from(["leaf", "root", "gone"]))
    def decide(self, lane: str, text: str, twice: bool, parent: str) -> None:
        self.turns += 1
        request = requested(str(self.turns), lane)
        entry = self.cache.get(request.conversation_id)
        known = None if entry is None else entry.leaf
        outcome = replied(request, text).model_copy(
            update={"parent_id": {"leaf": known, "root": None, "gone": "gone"}[parent]}
        )
        for _ in range(1 + twice):
            self.cache.decided(request, outcome)

    @rule(lane=LANES)
    def drop(self, lane: str) -> None:
        self.cache.drop(conversation(lane))

    @rule(partition=st.integers(0, 2))
    def drop_partition(self, partition: int) -> None:
        self.cache.drop_partition(partition)

    @invariant()
    def sizes_add_up(self) -> None:
        entries = self.cache._entries.values()
        assert self.cache._size == sum(entry.size for entry in entries)
        assert all(entry.size == 800 + sum(600 + m.characters for m in entry.messages.values()) for entry in entries)
        assert self.cache._size <= 6000 or len(self.cache) == 1

    @invariant()
    def every_path_is_complete(self) -> None:
        for entry in self.cache._entries.values():
            for message_id in entry.messages:
                newest_first = [message_id]
                while (parent := entry.messages[newest_first[-1]].parent_id) is not None:
                    newest_first.append(parent)
                found = entry.path(message_id)._messages
                assert [message.id for message in found] == newest_first[::-1]
            assert entry.leaf is None or entry.leaf in entry.messages


TestCaching = Caching.TestCase
TestCaching.settings = settings(max_examples=60, stateful_step_count=30)
