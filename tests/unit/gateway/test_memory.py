from __future__ import annotations

from logue_gateway.memory import OwnedConversations


def test_the_pair_not_used_for_longest_gives_way() -> None:
    owned = OwnedConversations(limit=2)
    owned.add("ann", "1")
    owned.add("ann", "2")
    assert ("ann", "1") in owned
    owned.add("ann", "3")
    assert ("ann", "2") not in owned
    assert ("ann", "1") in owned
    assert ("bob", "1") not in owned
    owned.discard("ann", "1")
    owned.discard("ann", "1")
    assert ("ann", "1") not in owned


def test_a_conversation_stays_deleted_when_its_creation_is_heard_later() -> None:
    owned = OwnedConversations()
    owned.discard("ann", "1")
    owned.add("ann", "1")
    assert ("ann", "1") not in owned
    owned.add("bob", "1")
    assert ("bob", "1") in owned
