"""The demo model: an OpenAI-compatible HTTP server that needs no key, costs nothing and fails on demand.

`POST /v1/chat/completions` (streamed or not) and `GET /v1/models`, as the official client expects them. The same
messages always give the same reply. What it does beside answering is told by *knobs* (knobs.py): by environment
(`LOGUE_DEMO_GAP=0.02`), in the last user message (`{{tokens=20 gap=0.01}}`) or in the body (`"demo": {"tokens": 20}`).
`GET /demo/calls` counts what it was asked, `DELETE /demo/calls` forgets it.
"""
