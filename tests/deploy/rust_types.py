"""JSON schemas of custom resources, read back from Rust types that the tool kopium generated from their definitions.

What survives that way round: every field's name and type, which fields are required, and the values of enumerations
(not those in lists). Patterns, bounds and rules in CEL do not. A field that nobody knows is an error here, as with
`kubectl --validate=strict`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

_KUBE = re.compile(r'#\[kube\(group = "([^"]+)", version = "([^"]+)", kind = "([^"]+)"')
_TYPE = re.compile(r"^pub (struct|enum) (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"((?:^    #\[serde\([^\n]*\n)?)^    pub (?:r#)?(\w+): ([^\n]+),$", re.MULTILINE)
_VARIANT = re.compile(r"((?:^    #\[serde\([^\n]*\n)?)^    (?:r#)?(\w+),", re.MULTILINE)
_RENAME = re.compile(r'rename = "([^"]*)"')
_GENERIC = re.compile(r"^(Option|Vec|BTreeMap)<(.*)>$")
_PRIMITIVES: dict[str, Schema] = {
    "String": {"type": "string"},
    "bool": {"type": "boolean"},
    "i32": {"type": "integer"},
    "i64": {"type": "integer"},
    "f64": {"type": "number"},
    "IntOrString": {"type": ["integer", "string"]},
    "serde_json::Value": {},
}


def schema_of(path: Path) -> tuple[str, str, Schema]:
    """API version, kind and schema of the resource that a generated file is about."""
    text = path.read_text()
    types = {name: (keyword, body) for keyword, name, body in _TYPE.findall(text)}
    group, version, kind = _KUBE.findall(text)[0]
    root = {
        "type": "object",
        "properties": {
            "apiVersion": {"const": f"{group}/{version}"},
            "kind": {"const": kind},
            "metadata": {"type": "object"},
            "spec": {"$ref": f"#/$defs/{kind}Spec"},
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "$defs": {name: _declared(keyword, body, types) for name, (keyword, body) in types.items()},
    }
    return f"{group}/{version}", kind, root


def _declared(keyword: str, body: str, types: dict[str, Any]) -> Schema:
    if keyword == "enum":
        return {"enum": [_name(attribute, variant) for attribute, variant in _VARIANT.findall(body)]}
    fields = [(_name(attribute, name), rust) for attribute, name, rust in _FIELD.findall(body)]
    return {
        "type": "object",
        "properties": {name: _typed(rust, types) for name, rust in fields},
        "required": [name for name, rust in fields if not rust.startswith("Option<")],
        "additionalProperties": False,
    }


def _name(attribute: str, name: str) -> str:
    renamed = _RENAME.search(attribute)
    return renamed.group(1) if renamed else name


def _typed(rust: str, types: dict[str, Any]) -> Schema:
    if (generic := _GENERIC.match(rust)) is not None:
        inner = generic.group(2)
        match generic.group(1):
            case "Option":
                return _typed(inner, types)
            case "Vec":
                return {"type": "array", "items": _typed(inner, types)}
            case _:
                return {"type": "object", "additionalProperties": _typed(inner.removeprefix("String, "), types)}
    if rust in _PRIMITIVES:
        return _PRIMITIVES[rust]
    return {"$ref": f"#/$defs/{rust}"} if rust in types else {"type": "object"}  # one of Kubernetes' own: Condition
