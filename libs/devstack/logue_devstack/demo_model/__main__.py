"""`python -m logue_devstack.demo_model --port 8102`: serves the demo model until it is told to stop.

On loopback; `--host 0.0.0.0` is for a container.
"""

from __future__ import annotations

import argparse

import uvicorn

from logue_devstack.demo_model.app import DemoModel
from logue_devstack.demo_model.knobs import Knobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8102)
    options = parser.parse_args()
    uvicorn.run(
        DemoModel(Knobs.from_environment()),
        host=options.host,
        port=options.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="critical",  # a stream that was told to be cut is no error
        timeout_graceful_shutdown=1,
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    main()
