"""No regular expression of Logue takes more than linear time, whatever it is matched against (CWE-1333)."""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
#: The rest of the devstack reads its own files only.
_TOPS = ("services", "libs/common", "libs/devstack/logue_devstack/demo_model")
#: Functions of `re` that compile their first argument.
_FUNCTIONS = {"compile", "match", "search", "fullmatch", "sub", "subn", "split", "findall", "finditer"}
#: Quadratic time would be thousands of times as long as the linear millisecond.
_LENGTH = 20_000
_SECONDS = 0.5


def _expressions() -> Iterator[tuple[str, str]]:
    """(where, pattern) of every regular expression that reads what others wrote, pydantic's and FastAPI's included."""
    for top in _TOPS:
        for path in sorted((_ROOT / top).rglob("*.py")):
            tree = ast.parse(path.read_text())
            constants = _constants(tree)
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    for argument in _patterns_in(node):
                        where = f"{path.relative_to(_ROOT)}:{node.lineno}"
                        yield where, _text(argument, constants, where)


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What the names of a module stand for: those that it assigns, and texts of ours that it imports."""
    found: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            found |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("logue_"):
            module = importlib.import_module(node.module or "")
            values = {alias.asname or alias.name: getattr(module, alias.name, None) for alias in node.names}
            found |= {name: ast.Constant(value) for name, value in values.items() if isinstance(value, str)}
    return found


def _patterns_in(call: ast.Call) -> list[ast.expr]:
    function = call.func
    is_re = (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "re"
        and function.attr in _FUNCTIONS
    )
    named = [keyword.value for keyword in call.keywords if keyword.arg in {"pattern", "regex"}]
    return [*(call.args[:1] if is_re else []), *named]


def _text(node: ast.expr, constants: dict[str, ast.expr], where: str) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, constants, where) for part in parts)
        case ast.FormattedValue(value=value):
            return _text(value, constants, where)
        case ast.Name(id=name) if name in constants:
            return _text(constants[name], constants, where)
    raise AssertionError(f"{where}: write the expression so that this test can read it")


_EXPRESSIONS = dict(_expressions())


def _attacks(pattern: str) -> Iterator[str]:
    """Long runs of everything that the expression mentions, alone and in pairs, with an end that does not match."""
    mentioned = sorted(set(re.sub(r"\\(?:x[0-9a-f]{2}|.)", "", pattern)))
    units = [*mentioned, "0", "a", "A", " ", "\n", "\x1a", "é", "٣", "-", ".", "{{", "a ", "{x", "\x1a0", "0.", '"']
    for unit in units:
        for end in ("", "!", "\x00", "\n"):
            yield unit * (_LENGTH // len(unit)) + end


def test_there_are_expressions_to_look_at() -> None:
    assert any("event_ids.py" in where for where in _EXPRESSIONS)
    assert len(_EXPRESSIONS) >= 5


@pytest.mark.parametrize("where", _EXPRESSIONS)
def test_an_expression_is_linear(where: str) -> None:
    expression = re.compile(_EXPRESSIONS[where])
    for text in _attacks(_EXPRESSIONS[where]):
        began = time.process_time()
        expression.fullmatch(text)
        expression.search(text)
        expression.sub("", text)
        assert time.process_time() - began < _SECONDS, f"{where}: {text[:20]!r} × {len(text)}"
