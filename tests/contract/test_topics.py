"""Names, partitions and retention of the topics, and the documents made from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
from tests.contract.expected import AT, FULL

from logue_common.asyncapi import document
from logue_common.events import ChatRequested, event_headers
from logue_common.frames import FrameHeader
from logue_common.settings import TopicSettings
from logue_common.topics import ALL_TOPICS, CO_PARTITIONED, MAX_RECORD_BYTES, topic_specs

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def test_topics_are_the_pinned_ones() -> None:
    settings = TopicSettings(partitions=12, stream_partitions=16, changed_partitions=4)
    assert [(spec.name, spec.partitions, spec.retention_ms) for spec in topic_specs(settings)] == [
        ("chat.requested", 12, 7 * DAY_MS),
        ("chat.cancels", 12, 7 * DAY_MS),
        ("chat.progressed", 12, 7 * DAY_MS),
        ("chat.replied", 12, 7 * DAY_MS),
        ("chat.stream", 16, HOUR_MS),
        ("conversation.changed", 4, DAY_MS),
        ("chat.dlq", 1, 30 * DAY_MS),
    ]
    assert [spec.name for spec in topic_specs(settings)] == list(ALL_TOPICS)
    assert [spec.config(replication_factor=3) for spec in topic_specs(settings) if spec.name == "chat.stream"] == [
        {
            "retention.ms": HOUR_MS,
            "max.message.bytes": MAX_RECORD_BYTES + 64 * 1024,
            "min.insync.replicas": 2,
            "segment.bytes": 64 * 1024 * 1024,
        }
    ]
    assert CO_PARTITIONED == ("chat.requested", "chat.cancels", "chat.progressed", "chat.replied")
    assert MAX_RECORD_BYTES == 4 * 1024 * 1024


def test_co_partitioned_topics_get_equal_counts_whatever_is_configured() -> None:
    specs = topic_specs(TopicSettings(partitions=5))
    assert {spec.partitions for spec in specs if spec.name in CO_PARTITIONED} == {5}


def test_the_asyncapi_document_is_up_to_date(repository: Path) -> None:
    written = (repository / "docs" / "asyncapi.json").read_text()
    command = [sys.executable, "-m", "logue_common.asyncapi"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert made.stdout == written, "run `python -m logue_common.asyncapi > docs/asyncapi.json`"


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    described = document()
    references = list(_references(described))
    assert len(references) > 20
    for reference in references:
        assert reference.startswith("#/")
        found: Any = described
        for step in reference[2:].split("/"):
            found = found[step]


def _references(value: Any) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_the_asyncapi_document_knows_every_topic_and_the_headers_that_are_written() -> None:
    described = orjson.loads(orjson.dumps(document()))
    assert set(described["channels"]) == set(ALL_TOPICS)
    messages = described["components"]["messages"]
    event = FULL["chat_requested"]
    written = [name for name, _ in event_headers(event, source="gateway", at=AT)]
    assert messages[ChatRequested.__name__]["headers"]["required"] == written
    frame = [name for name, _ in FrameHeader(user="u", attempt=1, n=1, kind="message.delta").encode()]
    assert messages["message.delta"]["headers"]["required"] == frame
