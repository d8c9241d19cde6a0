"""Stand-ins for Logue's services, so that the supervision is tested apart from what it supervises."""

from __future__ import annotations

from pathlib import Path

import pytest

SERVICE = """
import http.server, json, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if "BROKEN" in os.environ:
            raise SystemExit(1)
        body = json.dumps(dict(os.environ)).encode()
        self.send_response(200 if self.path in ("/readyz", "/environment") else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def run(*_, **__):
    port = next(int(os.environ[n]) for n in os.environ if n in
                ("LOGUE_GATEWAY_PORT", "LOGUE_AGENT_PORT", "LOGUE_CONVERSATION_PORT"))
    print("started", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()

if __name__ == "__main__":
    run()
"""
MIGRATIONS = """
import os
assert os.environ["LOGUE_DATABASE_OWNER_URL"].startswith("postgresql://logue_owner:")
assert "FAIL_MIGRATIONS" not in os.environ, "told to fail"
"""
SETTINGS = """
class GatewaySettings:
    jwt_secret = None

    @classmethod
    def load(cls):
        return cls()
"""


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment under which `python -m logue_agent` and its like are HTTP servers that are ready at once."""
    folder = tmp_path_factory.mktemp("stand-ins")
    for package in ("logue_agent", "logue_conversation", "logue_gateway"):
        (folder / package).mkdir()
        for module, code in (("__init__", ""), ("__main__", SERVICE), ("main", SERVICE), ("settings", SETTINGS)):
            write(folder / package / f"{module}.py", code)
    write(folder / "logue_conversation" / "migrate.py", MIGRATIONS)
    return {"PYTHONPATH": str(folder)}


def write(path: Path, code: str) -> None:
    path.write_text(code)
