"""The `logue` command: the whole system on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Annotated, ParamSpec

import typer

from logue_devstack.apache_kafka import fetch_jars, jar_folder, kafka_version
from logue_devstack.blueprint import BrokerKind
from logue_devstack.chat import ChatClient, run_chat
from logue_devstack.credentials import load_credentials
from logue_devstack.errors import DevstackError, InterruptedStartError
from logue_devstack.logs import show_logs, show_turn
from logue_devstack.ports import Ports
from logue_devstack.process import ProcessId, shown
from logue_devstack.stack import Stack
from logue_devstack.state import StackLock, StackState, end_leftovers

app = typer.Typer(
    help="Logue on one machine: database, broker, model and services, on loopback only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_DOWN_SECONDS = 60.0
_Arguments = ParamSpec("_Arguments")

DataDir = Annotated[Path, typer.Option("--data-dir", envvar="LOGUE_DATA_DIR", help="Where data, logs and secrets are.")]
User = Annotated[str, typer.Option("--user", help="The user id.")]


def _in_one_sentence(command: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Shows a DevstackError as its text and exits with 1."""

    @wraps(command)
    def wrapped(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except InterruptedStartError:
            print("logue: The start was interrupted; everything is stopped.", file=sys.stderr)
            raise typer.Exit(130) from None
        except DevstackError as error:
            print(f"logue: {error}", file=sys.stderr)
            raise typer.Exit(1) from error

    return wrapped


@app.command()
@_in_one_sentence
def up(  # noqa: PLR0917 - typer's options are parameters
    broker: Annotated[BrokerKind, typer.Option(help="noida: a light stand-in. apache: a real Apache Kafka.")] = (
        BrokerKind.NOIDA
    ),
    gateways: Annotated[int, typer.Option(min=1, max=16)] = 1,
    agents: Annotated[int, typer.Option(min=1, max=16)] = 1,
    port: Annotated[int, typer.Option(help="Of the first gateway.")] = 8000,
    base_port: Annotated[int, typer.Option(help="Of everything else: this one and the next ones up.")] = 8100,
    data_dir: DataDir = Path(".logue"),
) -> None:
    """Start everything, and keep it running until Ctrl-C."""
    begun = time.monotonic()
    ports = Ports.standard(gateways, agents, gateway_port=port, base_port=base_port)
    stack = Stack(data_dir, broker=broker, gateways=gateways, agents=agents, ports=ports, report=_say)

    def on_signal(_: int, __: FrameType | None) -> None:
        if stack.stopping.is_set():  # the second time: at once; the kernel ends our children with us
            os._exit(130)
        stack.stopping.set()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, on_signal)
    stack.start()
    _say(f"\nReady after {time.monotonic() - begun:.1f} s.\n\n{_greeting(stack.gateway_urls, stack.token('user-1'))}")
    stack.stopping.wait()
    _say("\nStopping …")
    stack.stop()
    _say("Everything is stopped; the data is kept.")


@app.command()
@_in_one_sentence
def down(data_dir: DataDir = Path(".logue")) -> None:
    """Stop what `logue up` started, and only that."""
    state = StackState.read(data_dir / "state.json")
    if state is None or not (state.is_running or any(e.id.is_alive() for e in state.processes.values())):
        _say(f"Logue does not run with the data in {data_dir}.")
        return
    state.supervisor.send(signal.SIGTERM)
    if not _gone(state.supervisor):
        raise DevstackError(f"Process {state.supervisor.pid} does not stop; see the logs in {data_dir / 'logs'}.")
    end_leftovers(state)
    _say("Everything is stopped; the data is kept.")


@app.command()
@_in_one_sentence
def reset(
    data_dir: DataDir = Path(".logue"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete all data, logs and secrets. Downloaded programs stay."""
    if not data_dir.is_dir():
        _say(f"There is no data in {data_dir}.")
        return
    if not yes and not typer.confirm(f"Delete all conversations, logs and secrets in {data_dir}?"):
        raise typer.Exit(1)
    with StackLock(data_dir):
        end_leftovers(StackState.read(data_dir / "state.json"))
        for name in (*BrokerKind, "logs"):
            shutil.rmtree(data_dir / name, ignore_errors=True)
        for name in ("secrets.json", "state.json"):
            (data_dir / name).unlink(missing_ok=True)
    _say("The data is deleted; the next `logue up` starts afresh.")


@app.command()
@_in_one_sentence
def status(data_dir: DataDir = Path(".logue")) -> None:
    """Show what runs, with process ids and ports. Exit code 1 when nothing does."""
    state = _running(data_dir)
    _say(f"Logue runs (process {state.supervisor.pid}, broker {state.broker}) at {', '.join(state.gateway_urls)}")
    for name, entry in state.processes.items():
        alive = entry.id.is_alive()
        since = f"up {time.time() - entry.id.started:6.0f} s" if alive else "down"
        _say(f"  {name:<13} port {entry.port}   process {entry.id.pid:<8} {since}")


@app.command()
@_in_one_sentence
def logs(  # noqa: PLR0917 - typer's options are parameters
    name: Annotated[str | None, typer.Argument(help="A process, for example gateway-0; all by default.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Of each log.")] = 20,
    turn: Annotated[str | None, typer.Option(help="The life of one turn (its id) across services, in order.")] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="With --turn: read JSON lines from elsewhere, say kubectl.")
    ] = (False),
    data_dir: DataDir = Path(".logue"),
) -> None:
    """Show the end of the logs, or all that they say of one turn."""
    folder = data_dir / "logs"
    if turn is not None and stdin:
        show_turn(turn, {"": sys.stdin.buffer})
        return
    files = sorted(folder.glob(f"{name or '*'}.log"))
    if not files:
        raise DevstackError(f"There is no log {name or ''} in {folder}.")
    if turn is None:
        show_logs(files, lines=lines, follow=follow)
        return
    with ExitStack() as stack:
        show_turn(turn, {file.stem: stack.enter_context(file.open("rb")) for file in files})


@app.command()
@_in_one_sentence
def token(user: User = "user-1", data_dir: DataDir = Path(".logue")) -> None:
    """Print a token for a user, valid for 24 hours."""
    print(_token(data_dir, user))


@app.command()
@_in_one_sentence
def chat(user: User = "user-1", data_dir: DataDir = Path(".logue")) -> None:
    """Chat in the terminal, through the public API."""
    state = _running(data_dir)
    run_chat(ChatClient(state.gateway_urls[0], user, _token(data_dir, user)))


@app.command()
@_in_one_sentence
def fetch_kafka(data_dir: DataDir = Path(".logue")) -> None:
    """Download Apache Kafka now, for `logue up --broker apache` and the tests."""
    fetch_jars(jar_folder(), log=data_dir / "logs" / "fetch-kafka.log")
    _say(f"Apache Kafka {kafka_version()} is in {jar_folder()}.")


def _token(data_dir: Path, user: str) -> str:
    if not (data_dir / "secrets.json").exists():
        raise DevstackError(f"There are no secrets in {data_dir} yet; `logue up` makes them.")
    return load_credentials(data_dir / "secrets.json").token(user)


def _running(data_dir: Path) -> StackState:
    state = StackState.read(data_dir / "state.json")
    if state is None or not state.is_running:
        raise DevstackError(f"Logue does not run with the data in {data_dir}; `logue up` starts it.")
    return state


def _gone(process: ProcessId) -> bool:
    deadline = time.monotonic() + _DOWN_SECONDS
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not process.is_alive()


def _greeting(gateway_urls: list[str], token: str) -> str:
    body = json.dumps({"message": "Hello! Who are you?"})
    program = Path(sys.argv[0]).absolute()
    logue = shown(program) if program.is_relative_to(Path.cwd()) else "logue"
    return "\n".join(
        [
            f"  Address   {'  '.join(gateway_urls)}",
            "  User      user-1",
            f"  Token     {token}",
            "",
            "Ask something (paste into another terminal):",
            "",
            f"  curl -N {gateway_urls[0]}/api/user-1/chat \\",
            f"    -H 'Authorization: Bearer {token}' \\",
            "    -H 'Content-Type: application/json' -H 'Accept: text/event-stream' \\",
            f"    -d '{body}'",
            "",
            f"Ctrl-C stops everything. Elsewhere: `{logue} chat`, `{logue} status`, `{logue} logs -f`.",
        ]
    )


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    app()
