"""Arithmetic in scenario files: a text that begins with `=` is a formula over the scenario's parameters.

    speed_kmh: =speed
    along: "=speed / 3.6 * 4 + 10"

Numbers, names, + - * / **, comparisons, `and`, `or`, `not`, `a if b else c` and a few functions; nothing else is run.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from karp_perception.core.errors import ConfigurationError

_LONGEST = 300  # characters: a formula, not a program
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: math.pow,
}  # fmt: skip
_COMPARISON: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {"abs": abs, "min": min, "max": max, "sqrt": math.sqrt}


def evaluated(value: Any, parameters: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]] = {}) -> Any:
    """`value` with every formula in it, however deep, replaced by what it gives; the rest as it is.

    Raises ConfigurationError for a formula that is wrong, with the key that it stands under.
    """
    if isinstance(value, str) and value.startswith("="):
        return _Formula(value[1:].strip(), parameters, {**_FUNCTIONS, **functions}).value()
    if isinstance(value, Mapping):
        return {key: _under(str(key), inner, parameters, functions) for key, inner in value.items()}
    if isinstance(value, list):
        return [_under(f"[{i}]", inner, parameters, functions) for i, inner in enumerate(value)]
    return value


def _under(key: str, value: Any, parameters: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> Any:
    try:
        return evaluated(value, parameters, functions)
    except ConfigurationError as error:
        text = str(error)
        joint = "" if text.startswith("[") else ": " if text.startswith("expected") else "."
        raise ConfigurationError(f"{key}{joint}{text}") from None


class _Formula:
    def __init__(self, text: str, parameters: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> None:
        self._text, self._parameters, self._functions = text, parameters, functions

    def value(self) -> Any:
        if len(self._text) > _LONGEST:
            raise self._wrong(f"more than {_LONGEST} characters")
        try:
            found = self._of(ast.parse(self._text, mode="eval").body)
        except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError, ArithmeticError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise self._wrong(str(error) or type(error).__name__) from None
        if isinstance(found, float) and not math.isfinite(found):
            raise self._wrong("a result that is not finite")
        return found

    def _wrong(self, why: str) -> ConfigurationError:
        shown = self._text if len(self._text) < 80 else self._text[:77] + "..."
        return ConfigurationError(f"expected a formula over {self._names()}, got '= {shown}' ({why.splitlines()[0]})")

    def _names(self) -> str:
        return ", ".join(sorted(self._parameters)) or "no parameters"

    def _of(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str)):
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in self._parameters:
                raise self._wrong(f"no parameter {node.id!r}")
            return self._parameters[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd, ast.Not)):
            inner = self._of(node.operand)
            return not inner if isinstance(node.op, ast.Not) else -inner if isinstance(node.op, ast.USub) else +inner
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = self._of(node.left), self._of(node.right)
            if isinstance(left, str) or isinstance(right, str):
                raise self._wrong("arithmetic with text")
            return _BINARY[type(node.op)](left, right)
        if isinstance(node, ast.BoolOp):
            parts = [bool(self._of(part)) for part in node.values]
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISON:
            return _COMPARISON[type(node.ops[0])](self._of(node.left), self._of(node.comparators[0]))
        if isinstance(node, ast.IfExp):
            return self._of(node.body) if self._of(node.test) else self._of(node.orelse)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            if node.func.id not in self._functions:
                raise self._wrong(f"no function {node.func.id!r}")
            return self._functions[node.func.id](*(self._of(argument) for argument in node.args))
        raise self._wrong("only arithmetic, comparisons and the known functions")
