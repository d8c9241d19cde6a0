"""The gateway does what /openapi.json says, whatever it is sent: Schemathesis, with every check that it has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from logue_devstack.stack import Stack

#: Given: other examples than the usual ones, which are the same in every run.
SEED = os.environ.get("LOGUE_HOSTILE_SEED")
_EXAMPLES = os.environ.get("LOGUE_HOSTILE_EXAMPLES", "20")


def test_every_check_of_schemathesis_passes(stack: Stack, tmp_path: Path) -> None:
    settings = tmp_path / "schemathesis.toml"
    shutil.copy(Path(__file__).with_name("schemathesis.toml"), settings)
    if SEED is not None:
        settings.write_text(settings.read_text().replace("deterministic = true", "deterministic = false"))
    tokens = {user: stack.token(user) for user in ("ann", "bob")}
    users = [
        {"name": user, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}
        for user, token in tokens.items()
    ]
    (tmp_path / "users.json").write_text(json.dumps({"auth": users}))
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(settings), "run"]
    options = ["--checks", "all", "--max-examples", _EXAMPLES, *(() if SEED is None else ("--seed", SEED))]
    done = subprocess.run(
        [*command, stack.gateway_urls[0] + "/openapi.json", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    print(f"LOGUE_HOSTILE_SEED={SEED or 'none: the same examples in every run'}\n{done.stdout}\n{done.stderr}")
    assert done.returncode == 0, "Schemathesis found something; its report is above."
