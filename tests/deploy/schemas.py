"""What a resource is validated against: Kubernetes' own schemas of a version, or those of an operator."""

from __future__ import annotations

import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft202012Validator
from tests.deploy.fetch import CRATE_OF_GROUP
from tests.deploy.rust_types import schema_of

#: The three that were supported when this was written.
KUBERNETES_VERSIONS = ("1.35", "1.36", "1.37")

Resource = dict[str, Any]


class Schemas:
    """Schemas from the files that fetch.py left."""

    def __init__(self, wheel: Path, crates: Path) -> None:
        self._archive = zipfile.ZipFile(wheel)
        self._crates = crates
        self._validator = cache(self._make_validator)
        self._definitions = cache(self._read_definitions)

    def violations(self, resource: Resource, version: str) -> list[str]:
        """Sentences; none when the resource is valid in this version of Kubernetes."""
        group = resource["apiVersion"].rpartition("/")[0]
        validator = self._validator(
            resource["apiVersion"], resource["kind"], "" if group in CRATE_OF_GROUP else version
        )
        name = f"{resource['kind']}/{resource['metadata']['name']}"
        return [
            f"{name}: {'.'.join(str(part) for part in error.instance_path)}: {error.message}"
            for error in validator.iter_errors(resource)
        ]

    def _make_validator(self, api_version: str, kind: str, version: str) -> Draft202012Validator:
        group, _, api = api_version.rpartition("/")
        if group in CRATE_OF_GROUP:
            return Draft202012Validator(self._custom(group, api)[kind])
        # `apps/v1` → deployment-apps-v1.json; of `policy.example.org/v1` only the first word is in the name.
        name = "-".join(part for part in (kind.lower(), group.split(".")[0], api) if part)
        schema = self._read(version, f"{name}.json")
        return Draft202012Validator(
            schema, base_uri=f"kubernetes://{version}/{name}.json", retriever=lambda _: self._definitions(version)
        )

    @cache  # noqa: B019 (there is one for a whole run)
    def _custom(self, group: str, api: str) -> dict[str, Any]:
        files = (self._crates / CRATE_OF_GROUP[group] / api).glob("*.rs")
        found = [schema_of(path) for path in files if path.name != "mod.rs"]
        return {kind: schema for _, kind, schema in found}

    def _read_definitions(self, version: str) -> Any:
        return self._read(version, "_definitions.json")

    def _read(self, version: str, name: str) -> Any:
        folder = f"kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict"
        return json.loads(self._archive.read(f"{folder}/{name}"))
