"""The whole service: events in at Kafka, answers out at HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from tests.integration.conversation.events import Turn
from tests.integration.conversation.kafka import records_of
from tests.integration.conversation.support import Service, eventually, has_row

from logue_common.events import ChatCancelRequested, ConversationChanged, decode
from logue_common.ids import new_id
from logue_common.internal import StoredTurn, TurnContext
from logue_common.topics import CHAT_CANCELS, CHAT_DLQ, CHAT_REQUESTED, CONVERSATION_CHANGED


async def test_what_was_just_published_is_read_back(service: Service) -> None:
    turn = Turn(user_id=f"user-{new_id()}")
    await service.publish(turn.requested(), turn.started(), turn.replied())

    response = await service.get(turn.user_id, f"/turns/{turn.turn_id}")
    assert response.status_code == 200
    assert StoredTurn.model_validate_json(response.content).internal.reply_to == turn.requested().reply_to
    items = await service.messages(turn, after_turn=turn.turn_id)
    assert [(item["role"], item["content"], item["status"]) for item in items] == [
        ("user", turn.content, "completed"),
        ("assistant", turn.reply, "completed"),
    ]
    assert items[1]["parent_id"] == items[0]["id"]
    assert items[1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


async def test_foreign_and_absent_ids_are_the_same_404(service: Service) -> None:
    turn = Turn(user_id=f"user-{new_id()}")
    await service.publish(turn.requested(), turn.replied())
    for path in (
        f"/conversations/{turn.conversation_id}",
        f"/conversations/{turn.conversation_id}/messages",
        f"/conversations/{turn.conversation_id}/turns/{turn.turn_id}/context",
        f"/turns/{turn.turn_id}",
    ):
        absent_path = path.replace(turn.conversation_id, new_id()).replace(turn.turn_id, new_id())
        assert (await service.get(turn.user_id, path)).status_code == 200
        started = time.monotonic()
        foreign = await service.get("somebody-else", path)
        absent = await service.get("somebody-else", absent_path)
        assert time.monotonic() - started < 1.0
        assert foreign.status_code == 404
        without_id = [{**answer.json(), "correlation_id": None} for answer in (foreign, absent)]
        assert without_id[0] == without_id[1]


async def test_a_deleted_conversation_stays_away_and_is_announced(service: Service) -> None:
    turn = Turn(user_id=f"user-{new_id()}")
    await service.publish(turn.requested(), turn.started())
    path = f"/internal/users/{turn.user_id}/conversations/{turn.conversation_id}"
    assert (await service.http.delete(path)).status_code == 204
    assert (await service.http.delete(path)).status_code == 404
    await service.publish(turn.replied(), turn.requested())
    assert (await service.get(turn.user_id, f"/turns/{turn.turn_id}")).status_code == 404
    assert (await service.http.get(path)).json()["code"] == "conversation_not_found"

    async def announced() -> bool:
        return len(await records_of(service.bootstrap_servers, CHAT_CANCELS, turn.conversation_id)) == 1

    await eventually(announced)
    cancel = decode(
        ChatCancelRequested, (await records_of(service.bootstrap_servers, CHAT_CANCELS, turn.conversation_id))[0].value
    )
    assert (cancel.turn_id, cancel.reason, cancel.user_id) == (None, "conversation_deleted", turn.user_id)
    changes = [
        decode(ConversationChanged, r.value)
        for r in await records_of(service.bootstrap_servers, CONVERSATION_CHANGED, turn.user_id)
    ]
    assert [change.change for change in changes] == ["conversation.created", "turn.started", "conversation.deleted"]


async def test_poison_and_foreign_records_are_buried_and_their_neighbours_stored(service: Service) -> None:
    turn = Turn(user_id=f"user-{new_id()}")
    intruder = Turn(user_id="intruder", conversation_id=turn.conversation_id)
    poison = Turn(user_id="nul\x00", conversation_id=turn.conversation_id)
    later = turn.next()
    await service.publish(turn.requested())
    await service.producer.send(CHAT_REQUESTED, key=turn.conversation_id, value=b"not json", headers=[])
    await service.publish(intruder.requested(), poison.requested(), later.requested())

    async def is_stored() -> bool:
        return (await service.get(turn.user_id, f"/turns/{later.turn_id}")).status_code == 200

    await eventually(is_stored)
    assert len(await service.messages(turn)) == 2
    assert (await service.get("intruder", "/conversations")).json()["items"] == []
    buried = await records_of(service.bootstrap_servers, CHAT_DLQ, turn.conversation_id)
    found = [{name: value.decode() for name, value in record.headers} for record in buried]
    assert sorted(headers["error_class"] for headers in found) == ["isolation", "sqlstate_22021", "unreadable"]
    assert {headers["original_topic"] for headers in found} == {CHAT_REQUESTED}
    assert b"not json" in [record.value for record in buried]


async def test_a_turn_is_shown_once_its_request_is_stored(service: Service) -> None:
    """The writer may be further in what is said about turns than in the requests."""
    turn = Turn(user_id=f"user-{new_id()}")
    await service.publish(turn.started())
    await eventually(lambda: has_row(service, turn.user_id, turn.turn_id))
    answer = await service.get(turn.user_id, f"/turns/{turn.turn_id}")
    assert (answer.status_code, answer.json()["code"]) == (404, "turn_not_found")
    await service.publish(turn.requested())
    found = (await service.get(turn.user_id, f"/turns/{turn.turn_id}")).json()
    assert found["requested_at"] is not None
    assert (found["status"], found["attempt"]) == ("in_progress", 1)


async def test_the_context_waits_for_every_earlier_turn(service: Service) -> None:
    first = Turn(user_id=f"user-{new_id()}")
    second = first.next()
    await service.publish(first.requested())
    path = f"/conversations/{first.conversation_id}/turns/{second.turn_id}/context"

    async def context(**params: object) -> Any:
        return (await service.get(first.user_id, path, **params)).json()

    assert (await context())["code"] == "not_ready"
    await service.publish(second.requested())
    assert (await context())["code"] == "not_ready"
    await service.publish(first.replied())
    await service.messages(first, after_turn=first.turn_id)
    found = TurnContext.model_validate_json(orjson.dumps(await context()))
    assert [message.content for message in found.messages] == [first.content, first.reply]
    assert found.parent_id == first.reply_message_id
    assert (await context(parent_id="root"))["messages"] == []
    assert [m["id"] for m in (await context(parent_id=first.user_message_id))["messages"]] == [first.user_message_id]
    assert (await context(parent_id=new_id()))["code"] == "message_not_found"
    assert (await context(parent_id=second.user_message_id))["code"] == "message_not_found"
    await service.publish(second.replied(parent_id=first.reply_message_id))
    await service.messages(first, after_turn=second.turn_id)
    decided = TurnContext.model_validate_json(orjson.dumps(await context()))
    assert decided.status == "completed"
    assert decided.decided is not None
    assert decided.decided.message is not None
    assert decided.decided.message.content == second.reply
    assert decided.parent_id == first.reply_message_id


async def test_lists_page_without_gaps(service: Service) -> None:
    user = f"user-{new_id()}"
    path = f"/internal/users/{user}/conversations"
    made = [(await service.http.post(path, json={"title": f"No {n}", "metadata": {"n": n}})).json() for n in range(5)]
    seen: list[Any] = []
    cursor: str | None = None
    while True:
        page = (await service.http.get(path, params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == made[::-1]

    conversation_id = made[0]["id"]
    turns = [Turn(user, conversation_id, content=f"q{n}", reply=f"a{n}") for n in range(3)]
    await service.publish(*(event for turn in turns for event in (turn.requested(), turn.replied())))
    await service.messages(turns[0], after_turn=turns[-1].turn_id)
    for order, expected in (
        ("asc", ["q0", "a0", "q1", "a1", "q2", "a2"]),
        ("desc", ["a2", "q2", "a1", "q1", "a0", "q0"]),
    ):
        contents: list[str] = []
        params: dict[str, object] = {"order": order, "limit": 4}
        while True:
            page = (await service.get(user, f"/conversations/{conversation_id}/messages", **params)).json()
            contents += [item["content"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert contents == expected


async def test_leaf_selects_one_branch(service: Service) -> None:
    first = Turn(user_id=f"user-{new_id()}", content="q1", reply="a1")
    second, edited = first.next("q2"), first.next("q2 edited")
    await service.publish(
        first.requested(),
        first.replied(),
        second.requested(),
        second.replied(parent_id=first.reply_message_id, content="a2"),
        edited.requested(parent_id=first.reply_message_id),
        edited.replied(parent_id=first.reply_message_id, content="a2 edited"),
    )
    await service.messages(first, after_turn=edited.turn_id)
    branch = await service.messages(first, leaf=edited.reply_message_id)
    assert [item["content"] for item in branch] == ["q1", "a1", "q2 edited", "a2 edited"]
    branch = await service.messages(first, leaf=second.user_message_id)
    assert [item["content"] for item in branch] == ["q1", "a1", "q2"]
    response = await service.get(first.user_id, f"/conversations/{first.conversation_id}/messages", leaf=new_id())
    assert (response.status_code, response.json()["code"]) == (404, "message_not_found")


async def test_a_conversation_is_patched(service: Service) -> None:
    path = f"/internal/users/user-{new_id()}/conversations"
    made = (await service.http.post(path, content=b"")).json()
    assert (made["title"], made["archived"], made["metadata"]) == (None, False, {})
    one = f"{path}/{made['id']}"
    changed = (await service.http.patch(one, json={"title": "T\x00", "metadata": {"k\x00": ["\x1a", 1.5]}})).json()
    assert (changed["title"], changed["metadata"]) == ("T\x00", {"k\x00": ["\x1a", 1.5]})
    assert (await service.http.patch(one, json={"archived": True})).json()["archived"] is True
    assert (await service.http.patch(one, json={"title": None})).json()["title"] is None
    assert (await service.http.get(one)).json()["metadata"] == {"k\x00": ["\x1a", 1.5]}
    for body in (b"[]", b"{", b'{"title": 7}', b'{"title": ""}', b'{"archived": null}', b'{"metadata": "\\ud800"}'):
        refused = await service.http.patch(one, content=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_error"), body
    refused = await service.http.get(path, params={"cursor": "zzz", "limit": 3})
    assert refused.json()["errors"] == [
        {"path": "cursor", "detail": "is not a cursor of this list", "type": "value_error"}
    ]
    assert (await service.http.get(path, params={"limit": 101})).status_code == 422


async def test_a_record_of_nearly_the_largest_size_is_stored(service: Service) -> None:
    turn = Turn(user_id=f"user-{new_id()}", reply="0123456789abcdef" * 220_000)
    await service.publish(turn.requested(), turn.replied())
    items = await service.messages(turn, after_turn=turn.turn_id)
    assert items[1]["content"] == turn.reply


async def test_only_services_with_the_token_are_served(service: Service) -> None:
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}):
        refused = await service.http.get("/internal/users/u/conversations", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
    assert (await service.http.get("/healthz", headers={"Authorization": ""})).status_code == 200


async def test_a_hundred_lookups_of_unknown_ids_share_the_barrier(service: Service) -> None:
    answers = await asyncio.gather(*(service.get("u", f"/turns/{new_id()}") for _ in range(100)))
    assert {answer.status_code for answer in answers} == {404}
