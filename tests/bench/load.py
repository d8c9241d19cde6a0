"""Who asks when: one user alone, and a hundred users at a time. Direct calls and Logue take turns all along."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import aiohttp
from tests.bench.calls import TOKENS, Answer, Logue, Model
from tests.bench.measure import CpuClock

from logue_devstack.stack import Stack

_QUIET_QUESTION = f"{{{{ttft=0 gap=0.005 tokens={TOKENS}}}}} How fast are you alone?"
_BUSY_QUESTION = f"{{{{ttft=0.2 gap=0.02 tokens={TOKENS}}}}} How fast are you among many?"
_PAUSE_SECONDS = 0.05
_WARM_UP_ROUNDS = 10
#: So that a known conversation stays one of ordinary length.
_TURNS_PER_CONVERSATION = 10
_THINK_SECONDS = (0.5, 1.5)
_RAMP_SECONDS = 2.0

Ask = Callable[[str], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int
    blocks: int
    block_seconds: float
    users: int = 100


@dataclass(slots=True)
class Answers:
    """All answers of a phase by the way they came: "direct", "new", "known" or "logue"; and what it cost."""

    by_way: dict[str, list[Answer]] = field(default_factory=dict)
    cpu_seconds: dict[str, Counter[str]] = field(default_factory=dict)
    #: How long the blocks of each way took.
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, way: str, answer: Answer) -> None:
        self.by_way.setdefault(way, []).append(answer)

    def errors(self) -> list[str]:
        return [f"{way}: {answer.error}" for way, all_of in self.by_way.items() for answer in all_of if answer.error]


class KnownConversation:
    """Asks in one conversation, and in another one after ten turns."""

    def __init__(self, logue: Logue) -> None:
        self._logue = logue
        self._conversation_id: str | None = None
        self._turns = 0

    async def ask(self, question: str) -> Answer:
        if self._turns % _TURNS_PER_CONVERSATION == 0:
            self._conversation_id = None
        self._turns += 1
        answer = await self._logue.ask(question, self._conversation_id)
        self._conversation_id = answer.conversation_id or None
        return answer

    async def ask_later_turn(self, question: str) -> Answer:
        """As `ask`, but never the first turn of a conversation; that one is asked unseen."""
        if self._turns % _TURNS_PER_CONVERSATION == 0:
            await self.ask(question)
            await asyncio.sleep(_PAUSE_SECONDS)
        return await self.ask(question)


async def one_at_a_time(stack: Stack, http: aiohttp.ClientSession, plan: Plan) -> Answers:
    """Round by round a direct call, a new conversation and a known one, each round in another order."""
    model, logue = Model(http, stack.demo_model_url), _logue(stack, http, "alone")
    known = KnownConversation(logue)
    ways: list[tuple[str, Ask]] = [
        ("direct", model.ask),
        ("new", lambda question: logue.ask(question, None)),
        ("known", known.ask_later_turn),
    ]
    answers = Answers({way: [] for way, _ in ways})
    for number in range(-_WARM_UP_ROUNDS, plan.rounds):
        for way, ask in random.sample(ways, len(ways)):
            answer = await ask(_QUIET_QUESTION)
            if number >= 0:
                answers.add(way, answer)
            await asyncio.sleep(_PAUSE_SECONDS)
    return answers


async def many_at_a_time(stack: Stack, http: aiohttp.ClientSession, plan: Plan) -> Answers:
    """Blocks of direct calls and of Logue in turn, by the same users at the same pace (a closed loop)."""
    direct: list[Ask] = [Model(http, stack.demo_model_url).ask] * plan.users
    logue: list[Ask] = [KnownConversation(_logue(stack, http, f"user-{number}")).ask for number in range(plan.users)]
    clock = CpuClock(dict(_pids(stack)))
    answers = Answers()
    for _ in range(plan.blocks):
        for way, asks in (("direct", direct), ("logue", logue)):
            before, begun = clock.read(), time.monotonic()
            await _block(answers, way, asks, plan.block_seconds)
            answers.cpu_seconds.setdefault(way, Counter()).update(clock.since(before))
            answers.seconds[way] = answers.seconds.get(way, 0.0) + time.monotonic() - begun
    return answers


async def _block(answers: Answers, way: str, asks: list[Ask], seconds: float) -> None:
    """Users come one after another over the ramp; whoever is under way at the end finishes."""
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def user(number: int, ask: Ask) -> None:
        await asyncio.sleep(_RAMP_SECONDS * number / len(asks))
        while loop.time() < begun + _RAMP_SECONDS + seconds:
            answers.add(way, await ask(_BUSY_QUESTION))
            await asyncio.sleep(random.uniform(*_THINK_SECONDS))

    async with asyncio.TaskGroup() as group:
        for number, ask in enumerate(asks):
            group.create_task(user(number, ask))


def _logue(stack: Stack, http: aiohttp.ClientSession, user: str) -> Logue:
    return Logue(http, stack.gateway_urls[0], user, stack.token(user))


def _pids(stack: Stack) -> Iterator[tuple[str, int]]:
    for name in stack.names:
        if (child := stack.server(name).child) is not None:
            yield name, child.id.pid
