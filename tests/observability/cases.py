"""Cases of the other alerts: for each one that fires, and ones that just do not."""

from __future__ import annotations

from collections.abc import Iterator

from monitoring.alerts import JOBS
from monitoring.slo import CHAT
from tests.observability.promtool import Case, counter

_UP = {f'up{{job="{job}",instance="{job}-1"}}': "1x60" for job in JOBS}
_AGENT = {"job": "logue-agent"}
_CONVERSATION = {"job": "logue-conversation"}
_GATEWAY = {"job": "logue-gateway"}
_TURNS = 'logue_agent_turns_total{status="completed",code=""}'
_CHAT = f'logue_gateway_requests_total{{{CHAT},status="202"}}'
#: Five minutes without the series, then its first event.
_BORN = "_x5 1x60"
_FIRST_EVENT = "0x5 1x90"


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _services()
    yield from _turns()
    yield from _isolation()
    yield from _writer()
    yield from _lag()
    yield from _dead_letters()
    yield from _processes()
    yield from _background()
    yield from _refusals()


def _services() -> Iterator[Case]:
    name = "LogueServiceDown"
    for job in JOBS:
        others = {series: values for series, values in _UP.items() if job not in series}
        down = others | {f'up{{job="{job}",instance="{job}-1"}}': "1x5 0x60"}
        one_of_two = _UP | {f'up{{job="{job}",instance="{job}-2"}}': "1x5 0x60"}
        yield Case(name, f"{job} down for a minute", down, "8m", [{}], of={"job": job})
        yield Case(name, f"{job} down since just now", down, "6m", of={"job": job})
        yield Case(name, f"no {job} is known", others, "2m", [{}], of={"job": job})
        yield Case(name, f"one of two of {job} down", one_of_two, "20m", of={"job": job})
    name = "LogueInstanceDown"
    instance = {"job": "logue-gateway", "instance": "g-2"}
    down = _UP | {'up{job="logue-gateway",instance="g-2"}': "1x5 0x60"}
    yield Case(name, "for five minutes", down, "11m", [instance])
    yield Case(name, "for four minutes", down, "10m")
    yield Case(name, "another job", _UP | {'up{job="node",instance="n"}': "0x60"}, "20m")


def _turns() -> Iterator[Case]:
    name, waiting = "LogueTurnsUnanswered", "logue_gateway_unanswered_turns"
    accepted = "logue_gateway_accept_seconds_count"
    asked = {waiting: "2x60", accepted: "0+1x60"}
    one = {waiting: "0x20 1x40", accepted: "0x20 1x40", _TURNS: "9x60"}
    yield Case(name, "none decided for minutes", asked | {_TURNS: "9x60"}, "10m", [{}])
    yield Case(name, "no agent at all", asked, "3m", [{}])
    yield Case(name, "a single one, for two minutes", one, "23m", [{}])
    yield Case(name, "a single one, for a minute", one, "22m")
    yield Case(name, "others are decided", asked | {_TURNS: "9+1x60"}, "10m")
    yield Case(name, "all have their first text", asked | {waiting: "0x60", _TURNS: "9x60"}, "10m")
    yield Case(name, "nothing was accepted", {waiting: "1x60", accepted: "7x60", _TURNS: "9x60"}, "10m")
    name, lost = "LogueTurnsLost", "logue_conversation_lost_turns_total"
    yield Case(name, "one", {lost: _FIRST_EVENT}, "6m", [{}])
    yield Case(name, "none", {lost: "0x60"}, "20m")
    yield Case(name, "one, more than an hour ago", {lost: _FIRST_EVENT}, "70m")


def _isolation() -> Iterator[Case]:
    name = "LogueIsolationMismatch"
    frames = 'logue_gateway_frames_total{reader="live",result="%s"}'
    for who in ("agent", "conversation"):
        yield Case(name, f"{who}, at once", {f"logue_{who}_isolation_mismatches_total": _FIRST_EVENT}, "6m", [{}])
    yield Case(name, "a frame, at once, the first ever", {frames % "wrong_user": _BORN}, "6m", [{}])
    yield Case(name, "frames that fit", {frames % "given": "0+50x60", frames % "nobody": _BORN}, "6m")
    yield Case(name, "none", {"logue_agent_isolation_mismatches_total": "0x60"}, "20m")
    yield Case(name, "half an hour ago", {"logue_agent_isolation_mismatches_total": _FIRST_EVENT}, "36m")


def _writer() -> Iterator[Case]:
    name, stored = "LogueWriterStoresNothing", 'logue_conversation_last_batch_timestamp_seconds{instance="%s"}'
    stands_still = {stored % "a": "0+60x5 300x60"}
    yield Case(name, "61 s ago, for a minute", {stored % "a": "-61+60x60"}, "1m", [{}])
    yield Case(name, "61 s ago, just now", {stored % "a": "-61+60x60"}, "0m")
    yield Case(name, "60 s ago, always", {stored % "a": "-60+60x60"}, "20m")
    yield Case(name, "another one stores", stands_still | {stored % "b": "0+60x60"}, "20m")
    yield Case(name, "never since it started", {stored % "a": "0x60"}, "10m", [{}])


def _lag() -> Iterator[Case]:
    name = "LogueConsumerLagGrows"
    instance = {"job": "logue-agent", "instance": "a"}
    lag = 'logue_consumer_lag_records{job="logue-agent",instance="a",topic="chat.requested",partition="%s"}'
    yield Case(name, "1,001 and growing", {lag % 0: "0+20x60", lag % 1: "501x60"}, "30m", [instance])
    yield Case(name, "1,000 and growing", {lag % 0: "0+20x60", lag % 1: "400x60"}, "30m")
    yield Case(name, "much, the same", {lag % 0: "5000x60"}, "30m")
    yield Case(name, "much, shrinking", {lag % 0: "5000-10x60"}, "30m")
    yield Case(name, "growing for four minutes", {lag % 0: "0x20 5000+10x60"}, "25m")
    name = "LogueCommitAge"
    age, owned = 'logue_commit_age_seconds{job="logue-agent",instance="a"}', {lag % 0: "0x360"}
    sawtooth = " ".join(["0", "10", "21"] * 120)
    yield Case(name, "21 s", owned | {age: "21x360"}, "10m", [instance], interval="10s")
    yield Case(name, "up to 21 s, again and again", owned | {age: sawtooth}, "10m", [instance], interval="10s")
    yield Case(name, "20 s", owned | {age: "20x360"}, "10m", interval="10s")
    yield Case(name, "21 s once", owned | {age: "0x20 21 0x300"}, "10m", interval="10s")
    begins = owned | {age: "0x10 21x60"}
    yield Case(name, "21 s for five minutes", begins, "16m", [instance])
    yield Case(name, "21 s for four minutes", begins, "15m")
    yield Case(name, "owns no partition", {age: "900x360"}, "10m", interval="10s")


def _dead_letters() -> Iterator[Case]:
    name = "LogueDeadLetters"
    agent = 'logue_agent_dead_letters_total{job="logue-agent",instance="a",topic="chat.requested"}'
    store = 'logue_conversation_dead_letters_total{job="logue-conversation",instance="c",error_class="unreadable"}'
    yield Case(name, "the agent's first", {agent: _BORN}, "6m", [_AGENT])
    yield Case(name, "one more of the conversation service", {store: "2x20 3x60"}, "21m", [_CONVERSATION])
    yield Case(name, "both", {agent: _BORN, store: _BORN}, "6m", [_AGENT, _CONVERSATION])
    yield Case(name, "long ago", {agent: _BORN}, "30m")
    name, waiting = "LogueDeadLettersWaiting", 'logue_dead_letters_waiting{job="logue-agent",instance="a"}'
    yield Case(name, "for five minutes", {waiting: "0x10 1x60"}, "16m", [_AGENT])
    yield Case(name, "for four minutes", {waiting: "0x10 1x60"}, "15m")
    yield Case(name, "none", {waiting: "0x60"}, "20m")
    name, dropped = "LogueDeadLettersDropped", 'logue_dead_letters_dropped_total{job="logue-agent",instance="a"}'
    yield Case(name, "one", {dropped: _FIRST_EVENT}, "6m", [_AGENT])
    yield Case(name, "none", {dropped: "0x60"}, "20m")


def _processes() -> Iterator[Case]:
    name, where = "LogueEventLoopSlow", 'job="logue-gateway",instance="g"'
    rounds = f"logue_event_loop_delay_seconds_count{{{where}}}"
    quick = f'logue_event_loop_delay_seconds_bucket{{{where},le="0.1"}}'
    instance = {"job": "logue-gateway", "instance": "g"}
    slow = {rounds: counter((60, 1000)), quick: counter((60, 989))}
    yield Case(name, "1.1 % for ten minutes", slow, "11m", [instance])
    yield Case(name, "1.1 % for nine minutes", slow, "10m")
    yield Case(name, "0.9 %", {rounds: counter((60, 1000)), quick: counter((60, 991))}, "20m")


def _background() -> Iterator[Case]:
    for name, failures in (
        ("LogueOutboxFails", "logue_conversation_outbox_failures_total"),
        ("LogueReconcilerFails", "logue_conversation_reconcile_failures_total"),
    ):
        yield Case(name, "again and again for ten minutes", {failures: "0+0.2x60"}, "11m", [{}])
        yield Case(name, "again and again for nine minutes", {failures: "0+0.2x60"}, "10m")
        yield Case(name, "for five minutes", {failures: "0+1x5 5x60"}, "12m")
        yield Case(name, "never", {failures: "0x60"}, "20m")
    name, defects = "LogueGatewayDefects", 'logue_gateway_defects_total{job="logue-gateway",instance="g",task="ticks"}'
    yield Case(name, "the first ever", {defects: _BORN}, "6m", [_GATEWAY])
    yield Case(name, "long ago", {defects: _BORN}, "30m")


def _refusals() -> Iterator[Case]:
    name, shed = "LogueOverloaded", "logue_gateway_shed_turns_total"
    much = {_CHAT: counter((60, 1000)), shed: counter((60, 11))}
    yield Case(name, "1.1 % for five minutes", much, "6m", [{}])
    yield Case(name, "1.1 % for four minutes", much, "5m")
    yield Case(name, "0.9 %", {_CHAT: counter((60, 1000)), shed: counter((60, 9))}, "20m")
    name, failed = "LogueModelFails", 'logue_agent_turns_total{status="failed",code="%s"}'
    good = {_TURNS: counter((60, 949))}
    bad = good | {failed % "model_error": counter((60, 51))}
    yield Case(name, "5.1 % for five minutes", bad, "6m", [{}])
    yield Case(name, "5.1 % for four minutes", bad, "5m")
    yield Case(name, "4.9 %", good | {failed % "model_timeout": counter((60, 48.9))}, "20m")
    yield Case(name, "not the model's", good | {failed % "internal_error": counter((60, 500))}, "20m")
    name, answered = "LogueTokensRefused", 'logue_gateway_requests_total{method="GET",route="/x",status="%s"}'
    half = {answered % 401: "0+51x60", answered % 200: "0+49x60"}
    yield Case(name, "51 % for ten minutes", half, "11m", [{}])
    yield Case(name, "51 % for nine minutes", half, "10m")
    yield Case(name, "49 %", {answered % 401: "0+49x60", answered % 200: "0+51x60"}, "20m")
    yield Case(name, "other refusals", {answered % 403: "0+90x60", answered % 200: "0+10x60"}, "20m")
