from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logue_common.errors import ProblemError
from logue_gateway.streams.event_ids import EventId, EventIds

IDS = EventIds("a-secret-of-thirty-two-bytes-or-more")
events = st.builds(
    EventId,
    partition=st.integers(0, 999_999),
    offset=st.integers(-1, 10**17),
    attempt=st.integers(0, 10**8),
    n=st.integers(0, 10**8),
    is_end=st.booleans(),
)


@given(events, st.text(min_size=1), st.text(min_size=1))
def test_an_id_tells_its_position_to_its_own_turn(event: EventId, user: str, turn: str) -> None:
    ids = IDS.of(user, turn)
    assert ids.parse(ids.format(event).decode()) == event


@given(events, st.text(), st.text(), st.text(), st.text())
def test_no_other_turn_or_user_accepts_it(event: EventId, user: str, turn: str, user2: str, turn2: str) -> None:
    if (user, turn) != (user2, turn2):
        with pytest.raises(ProblemError):
            IDS.of(user2, turn2).parse(IDS.of(user, turn).format(event).decode())


def test_another_secret_accepts_nothing() -> None:
    text = IDS.of("ann", "turn").format(EventId(1, 2, 3, 4)).decode()
    with pytest.raises(ProblemError):
        EventIds("another-secret-of-thirty-two-bytes!!").of("ann", "turn").parse(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: "-" + text,
        lambda text: "9" * 40 + text,
        lambda text: "١" + text,
        lambda text: text.replace(".", ","),
        lambda text: text.swapcase(),
    ],
)
def test_what_is_no_id_is_400(change: object) -> None:
    ids = IDS.of("ann", "turn")
    text = ids.format(EventId(1, 2, 3, 4)).decode()
    assert ids.parse(text)
    with pytest.raises(ProblemError) as caught:
        ids.parse(change(text))  # type: ignore[operator]
    assert caught.value.status == 400
