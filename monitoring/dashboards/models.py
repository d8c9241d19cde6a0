"""Models and tokens: how each model answers, fails and is paid."""

from __future__ import annotations

from monitoring.panels import Page, Query, Row, Variable, lines, number, p95, rates
from monitoring.slo import MODEL_CODES, OWN_CODES

_MODEL = 'model=~"$model"'


def _tokens(kind: str) -> str:
    return f'sum(increase(logue_agent_tokens_total{{{_MODEL},kind="{kind}"}}[$__range]))'


ROWS = (
    Row(
        "In the chosen time",
        number(
            "Calls",
            "short",
            "Model calls that ended.",
            f"sum(increase(logue_agent_model_seconds_count{{{_MODEL}}}[$__range]))",
            width=6,
        ),
        number("Prompt tokens", "short", "As the model server billed them.", _tokens("prompt"), width=6),
        number("Completion tokens", "short", "As the model server billed them.", _tokens("completion"), width=6),
        number(
            "Turns that run now",
            "none",
            "Turns that call a model now. An agent runs 256 at once.",
            "sum(logue_agent_running_turns)",
            width=6,
        ),
    ),
    Row(
        "Latency",
        lines(
            "First token, p50",
            "s",
            "From the call to the first token, by model.",
            Query(
                "histogram_quantile(0.5, sum by (model, le) "
                f"(rate(logue_agent_model_first_token_seconds_bucket{{{_MODEL}}}[$__rate_interval])))",
                "{{model}}",
                exemplars=True,
            ),
            width=8,
        ),
        lines(
            "First token, p95",
            "s",
            "After 60 s without a token the turn fails as model_timeout.",
            Query(p95("logue_agent_model_first_token_seconds", "model", of=_MODEL), "{{model}}", exemplars=True),
            limit=60,
            width=8,
        ),
        lines(
            "Whole call, p95",
            "s",
            "From the call to its end.",
            Query(p95("logue_agent_model_seconds", "model", of=_MODEL), "{{model}}", exemplars=True),
            width=8,
        ),
    ),
    Row(
        "Calls and failures",
        lines(
            "Calls",
            "ops",
            "Model calls that ended, by model.",
            Query(f"sum by (model) (rate(logue_agent_model_seconds_count{{{_MODEL}}}[$__rate_interval]))", "{{model}}"),
            stacked=True,
            width=8,
        ),
        lines(
            "Failed calls",
            "ops",
            "By model and code.",
            rates(f"logue_agent_model_errors_total{{{_MODEL}}}", "model", "code"),
            width=8,
        ),
        lines(
            "Calls repeated",
            "ops",
            "Tried again before the first token, unseen by people.",
            rates("logue_agent_model_retries_total"),
            width=8,
        ),
        lines(
            "Turns that fail at the model",
            "percentunit",
            "Share of all turns. Over 5 % is a ticket; it does not count against Logue.",
            Query(
                f'(sum(rate(logue_agent_turns_total{{code=~"{"|".join(MODEL_CODES)}"}}[$__rate_interval]))'
                " or vector(0)) / sum(rate(logue_agent_turns_total[$__rate_interval]))",
                "failed",
            ),
            limit=0.05,
            width=8,
        ),
        lines(
            "Failed turns by code",
            "ops",
            f"Of all failed turns. Logue's own: {', '.join(OWN_CODES)}; the model's: {', '.join(MODEL_CODES)}; the "
            "others are the client's.",
            rates('logue_agent_turns_total{status="failed"}', "code"),
            stacked=True,
            width=8,
        ),
        lines(
            "Contexts asked of the store",
            "ops",
            "By result. Most turns find theirs in the agent's cache.",
            rates("logue_agent_context_fetches_total", "result"),
            width=8,
        ),
    ),
    Row(
        "Tokens",
        lines(
            "Tokens a second",
            "none",
            "By model and kind.",
            Query(
                f"sum by (model, kind) (rate(logue_agent_tokens_total{{{_MODEL}}}[$__rate_interval]))",
                "{{model}} {{kind}}",
            ),
            stacked=True,
            width=12,
        ),
        lines(
            "Tokens of a call",
            "none",
            "On average, by model and kind. Growing prompts are long conversations.",
            Query(
                f"sum by (model, kind) (rate(logue_agent_tokens_total{{{_MODEL}}}[$__rate_interval])) / on (model) "
                f"group_left () sum by (model) (rate(logue_agent_model_seconds_count{{{_MODEL}}}[$__rate_interval]))",
                "{{model}} {{kind}}",
            ),
            width=12,
        ),
    ),
)

PAGE = Page(
    uid="logue-models",
    title="Models and tokens",
    description="How each model answers, fails and is paid.",
    rows=ROWS,
    variables=(Variable("model", "Model", "label_values(logue_agent_model_seconds_count, model)"),),
)
