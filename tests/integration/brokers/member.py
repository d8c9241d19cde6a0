"""A member of a group as a process: `python -m tests.integration.brokers.member BOOTSTRAP GROUP FILE TOPIC…`.

Writes how many partitions it owns into FILE whenever that changes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.integration.brokers.kit import Member


async def main(bootstrap: str, group: str, file: Path, topics: list[str]) -> None:
    """Runs until it is killed."""
    shown = -1
    async with Member(bootstrap, group, topics, client_id="silent") as member:
        while True:
            if len(member.owned) != shown:
                shown = len(member.owned)
                await asyncio.to_thread(file.write_text, f"{shown}\n")
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:]))
