"""Grafana's server-side expressions, as far as these dashboards use them: math, the largest, and holding a value."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.dashboards.interpolation import View
from tests.support.dashboards.searches import Frame, Json, Untranslatable

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

Points = dict[int, float | None]
Operand = float | Points
"""A number, or values by time."""


def evaluated(target: Json, known: Mapping[str, list[Frame]], view: View) -> Frame:
    """The result of an expression over the results of the other queries of its panel.

    Raises Untranslatable, and KeyError for a query that there isn't.
    """
    result: Operand
    if target["type"] == "math":
        result = _math(view.plain(target["expression"]), known)
    else:
        points = _points(known[target["expression"].removeprefix("$")])
        if target["type"] == "reduce" and target["reducer"] == "max":
            result = max((value for value in points.values() if value is not None), default=float("nan"))
        elif target["type"] == "resample" and target["upsampler"] == "pad":
            result = _padded(points, view)
        else:
            raise Untranslatable(f"expression {target['type']}")
    number = not isinstance(result, dict)
    found = result if isinstance(result, dict) else {view.to_ms: result}
    columns: dict[str, list[Any]] = {"Time": list(found), "Value": list(found.values())}
    return Frame(target["refId"], target["refId"], columns, is_number=number)


def _points(frames: list[Frame]) -> Points:
    if len(frames) > 1:
        raise Untranslatable(f"arithmetic with {len(frames)} series that have no labels")
    return dict(zip(frames[0].times, frames[0].values, strict=True)) if frames else {}


def _math(expression: str, known: Mapping[str, list[Frame]]) -> Operand:
    names: dict[str, str] = {}

    def one(match: re.Match[str]) -> str:
        return names.setdefault(match.group(1), f"operand_{len(names)}")

    parsed = ast.parse(re.sub(r"\$(\w+)", one, expression), mode="eval")
    operands: dict[str, Operand] = {}
    for name, internal in names.items():
        frames = known[name]
        reduced = bool(frames) and frames[0].is_number
        operands[internal] = frames[0].values[0] if reduced else _points(frames)
    return _evaluated(parsed.body, operands)


def _evaluated(node: ast.expr, operands: Mapping[str, Operand]) -> Operand:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name):
        return operands[node.id]
    if isinstance(node, ast.BinOp):
        apply = _OPERATORS[type(node.op)]
        return _joined(_evaluated(node.left, operands), _evaluated(node.right, operands), apply)
    raise Untranslatable(f"math {ast.dump(node)}")


def _joined(left: Operand, right: Operand, apply: Callable[[float, float], float]) -> Operand:
    def one(first: float | None, second: float | None) -> float | None:
        if first is None or second is None:
            return None
        return float("nan") if apply is operator.truediv and second == 0 else apply(first, second)

    if isinstance(left, dict) and isinstance(right, dict):
        return {time: one(value, right[time]) for time, value in left.items() if time in right}
    if isinstance(left, dict):
        assert not isinstance(right, dict)
        return {time: one(value, right) for time, value in left.items()}
    if isinstance(right, dict):
        return {time: one(left, value) for time, value in right.items()}
    found = one(left, right)
    return float("nan") if found is None else found


def _padded(points: Points, view: View) -> Points:
    found: Points = {}
    last: float | None = None
    reported = sorted(points.items())
    for time in range(view.from_ms, view.to_ms + 1, view.interval_ms):
        while reported and reported[0][0] <= time:
            last = reported.pop(0)[1]
        found[time] = last
    return found
