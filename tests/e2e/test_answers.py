"""A question goes in, its answer comes out: as JSON, as events, later; shown, stored and read back alike."""

from __future__ import annotations

from uuid import uuid4

from tests.e2e.client import Client
from tests.e2e.world import World


async def test_json_answer_is_what_is_stored(client: Client) -> None:
    reply = await client.chat("How do logs relate to streams?")
    assert reply["status"] == "completed"
    assert reply["message"]["role"] == "assistant"
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 2
    question, answer = await client.messages(reply["conversation_id"], after_turn=reply["turn_id"])
    assert (question["role"], question["content"]) == ("user", "How do logs relate to streams?")
    assert {name: answer[name] for name in reply["message"]} == reply["message"]
    assert (answer["status"], answer["usage"], answer["turn_id"]) == ("completed", usage, reply["turn_id"])
    assert answer["parent_id"] == question["id"]
    turn = await client.get(f"turns/{reply['turn_id']}")
    assert (turn["status"], turn["usage"], turn["error"]) == ("completed", usage, None)
    assert {name: turn["message"][name] for name in reply["message"]} == reply["message"]
    assert turn["requested_at"] <= turn["started_at"] <= turn["first_token_at"] <= turn["finished_at"]


async def test_events_show_what_is_stored(client: Client, world: World) -> None:
    stream = client.stream("{{tokens=30 gap=0.02}} count")
    shown = await stream.to_end()
    assert shown.ending is not None
    assert shown.ending.name == "message.completed"
    body = shown.ending.data
    assert shown.text == body["message"]["content"] == " ".join(f"w{n}" for n in range(1, 31))
    assert body["turn_id"] == stream.turn_id
    assert body["usage"]["completion_tokens"] == 30
    if stream.connections == 1:
        assert shown.names[0] == "turn.started"
        assert shown.started is not None
    if not world.disturbed:
        assert set(shown.names[1:-1]) == {"message.delta"}
    question, answer = await client.messages(body["conversation_id"], after_turn=body["turn_id"])
    assert answer["content"] == shown.text
    if shown.started is not None:
        assert shown.started == {
            "turn_id": body["turn_id"],
            "conversation_id": body["conversation_id"],
            "user_message_id": question["id"],
        }


async def test_accept_header_asks_for_events_too(client: Client) -> None:
    answer = await client.request(
        "POST",
        "chat",
        json={"message": "hi"},
        headers={"Accept": "text/event-stream", "Idempotency-Key": uuid4().hex},
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content.startswith(b"retry: 1000\n")


async def test_accepted_answer_is_found_later(client: Client) -> None:
    accepted = await client.ask("{{tokens=5 gap=0.1}} later")
    assert accepted["status"] in {"queued", "in_progress"}
    turn = await client.ended(accepted["turn_id"])
    assert turn["status"] == "completed"
    assert turn["message"]["content"] == "w1 w2 w3 w4 w5"


async def test_wait_that_ends_first_gives_202(client: Client) -> None:
    answer = await client.post("{{tokens=30 gap=0.1}} slow", prefer="wait=1")
    assert answer.status_code == 202
    assert (await client.ended(answer.json()["turn_id"]))["status"] == "completed"


async def test_failing_model_gives_a_failed_turn_that_says_why(client: Client) -> None:
    tag = uuid4().hex
    answer = await client.post(f"{{{{fail=400}}}} {tag}")
    assert (answer.status_code, answer.json()["code"]) == (502, "model_error")
    turn = await client.ended(answer.headers["x-correlation-id"])
    assert (turn["status"], turn["error"]["code"]) == ("failed", "model_error")
    shown = await client.read(f"{{{{fail=400}}}} {tag} as events")
    assert shown.ending is not None
    assert (shown.ending.name, shown.ending.data["code"]) == ("turn.failed", "model_error")
    assert shown.ending.data["turn_id"]


async def test_model_that_fails_at_first_is_asked_again(client: Client) -> None:
    reply = await client.chat(f"{{{{fail=503 fail_times=1 tokens=3}}}} {uuid4().hex}")
    assert reply["message"]["content"] == "w1 w2 w3"
