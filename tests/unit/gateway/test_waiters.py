from __future__ import annotations

from structlog.testing import capture_logs

from logue_common.frames import COMPLETED, FrameHeader
from logue_common.ids import derived_id
from logue_gateway.streams.waiters import FrameRecord, Registry, ReplyWaiter

TURN = derived_id("turn", "of ann")


def _end(user: str) -> FrameRecord:
    return FrameRecord(partition=3, offset=17, turn_id=TURN, header=FrameHeader(user, 1, 1, COMPLETED), value=b"{}")


async def test_a_frame_of_another_user_is_not_given_and_its_place_is_logged() -> None:
    registry = Registry("live", silence_seconds=1, on_attach=lambda *_: None, on_gap=lambda _: None)
    waiter = ReplyWaiter("ann", TURN)
    registry.add(waiter)
    with capture_logs() as logs:
        registry.deliver(_end("bob"), now=0)
    assert not waiter.done
    expected = {"event": "frame_of_another_user", "correlation_id": TURN, "partition": 3, "offset": 17}
    assert logs == [{**expected, "log_level": "error"}]
    registry.deliver(_end("ann"), now=0)
    assert waiter.done
