"""A hundred real-looking messages come back exactly as they were sent."""

from __future__ import annotations

from tests.integration.conversation.events import FakeLog, Turn
from tests.integration.conversation.support import Databases

from logue_conversation.store import messages
from logue_conversation.writer import Writer

SEEDS = [
    "def f(x):\r\n\treturn {'a': [1, 2], \"b\": x}\r\n",
    "SELECT '; DROP TABLE messages; --' AS \"x\", $1, :name, %s, {}, \\N, \\\\x00",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 e\u0301 vs é, Z̷̢̛a̸l̴g̵o̶",
    "שלום עולם \u202emixed\u202c עם English ١٢٣ مرحبا",
    "zero\x00width\u200b\ufeff and \x00\x00 at the end\x00",
    "\x1a0 looks escaped \x1a\x1a0 \x1a",
    "\u2028line\u2029paragraph\u0085next\x0b\x0c",
    "# Title\n\n| a | b |\n|---|---|\n| `1` | **2** |\n\n```sql\nSELECT 1;\n```\n",
    "<script>alert('x')</script>&amp;&nbsp;",
    "  leading and trailing white space \t\n",
    "漢字かな交じり文 한국어 ไทย हिन्दी தமிழ் 𝕬𝖑𝖕𝖍𝖆 \U0010ffff",
    "\ufffd \ufffe noncharacters \ud7ff \ue000",
    '{"json": "\\u0000", "n": 1e400}',
    "a" * 32_000,
    "😀" * 32_000,
    "\x00" * 32_000,
    "é\r\n" * 8_000,
]
TEXTS = [*SEEDS, *(f"{SEEDS[n % len(SEEDS)][:500]}\n{n}" for n in range(100 - len(SEEDS)))]


async def test_texts_come_back_exactly(writer: Writer, databases: Databases) -> None:
    assert len(TEXTS) == 100
    first, log = Turn(content=TEXTS[0], reply=TEXTS[-1]), FakeLog()
    turns = [first]
    for asked, answered in zip(TEXTS[1:], TEXTS[::-1][1:], strict=True):
        turns.append(Turn(first.user_id, first.conversation_id, content=asked, reply=answered))
    metadata = {"k\x00": [TEXTS[4], {"x": None, "big": 10**30}]}
    await writer.store(log.batch(*(turn.requested(metadata=metadata) for turn in turns)))
    await writer.store(log.batch(*(turn.replied(model="m\x00") for turn in turns)))
    page = await databases.api.as_user(
        first.user_id,
        lambda c: messages.page(
            c, first.user_id, first.conversation_id, after=None, newest_first=False, leaf=None, limit=200
        ),
    )
    assert [m.content for m in page if m.role == "user"] == TEXTS
    assert [m.content for m in page if m.role == "assistant"] == TEXTS[::-1]
