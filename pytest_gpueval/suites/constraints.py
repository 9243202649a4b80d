"""Constraints of a sweep: expressions over its parameters, such as `n_embd % n_head == 0`, that a point must fulfil.

Only what is listed here can be written; the library simpleeval computes it. No attribute is read and nothing but five functions is called.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_gpueval.errors import MissingExtra, SuiteError, valid_values

from .values import Value


def _round(number: Any, digits: int = 0) -> Any:
    if abs(digits) > 30:  # Python would compute 10 ** digits
        raise ValueError("round to more than 30 digits")
    return round(number, digits) if digits else round(number)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {"abs": abs, "len": len, "max": max, "min": min, "round": _round}
MOST_CHARACTERS = 1000
MOST_DEEP = 50
MOST_BITS = 4096  # of a power of whole numbers
_OPERATORS: tuple[type[ast.AST], ...] = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd, ast.Not, ast.And, ast.Or,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
)  # fmt: skip
_SHAPES: tuple[type[ast.AST], ...] = (ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.List, ast.Tuple, ast.Load)


@dataclass(frozen=True)
class Constraint:
    """One constraint, checked; `text` is how it was written."""

    text: str
    tree: ast.expr


def parsed(text: str, parameters: Collection[str]) -> Constraint:
    """A constraint over these parameters; names with dots (`model.lr`) are names. Raises ValueError for what is not understood, or names another parameter."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"constraint of {len(text):,} characters, and {MOST_CHARACTERS:,} are the most: {text!r:.80}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        tree = _Names(frozenset(parameters)).visit(tree)
    except (RecursionError, MemoryError):
        raise ValueError(f"constraint {text!r:.80} is nested too deeply, by more than {MOST_DEEP}") from None
    except (SyntaxError, ValueError) as error:
        why = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(f"constraint {text!r} is not understood: {why}. An example: n_embd % n_head == 0") from None
    try:
        _check(tree, parameters)
    except ValueError as error:
        raise ValueError(f"constraint {text!r}: {error}") from None
    return Constraint(text, tree)


class _Names(ast.NodeTransformer):
    """Writes `model.lr` as one name where a parameter is called so."""

    def __init__(self, parameters: frozenset[str]) -> None:
        self._parameters = parameters

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        dotted = ast.unparse(node)
        return ast.copy_location(ast.Name(dotted, ast.Load()), node) if dotted in self._parameters else node


def _check(node: ast.AST, parameters: Collection[str], depth: int = 0) -> None:
    """Raises ValueError for the first thing in a tree that constraints cannot say."""
    if depth > MOST_DEEP:
        raise ValueError(f"is nested too deeply, by more than {MOST_DEEP}")
    if isinstance(node, ast.Name):
        if node.id not in parameters:
            raise ValueError(f"unknown parameter {node.id!r}. {valid_values(node.id, parameters, what='parameters')}")
        return
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, bool | int | float | str):
            raise ValueError(f"{ast.unparse(node)} is neither a number, a text, True nor False")
        return
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
            raise ValueError(f"{ast.unparse(node)!r:.80} cannot be called here. {valid_values(ast.unparse(node.func), FUNCTIONS, what='functions')}")
        for argument in node.args:
            _check(argument, parameters, depth + 1)
        return
    if not isinstance(node, _SHAPES + _OPERATORS):
        raise ValueError(
            f"{ast.unparse(node)!r:.80} is not allowed. Constraints have numbers, texts, parameters, + - * / // % **, comparisons, and, or, not, in, "
            f"and {', '.join(FUNCTIONS)}."
        )
    for child in ast.iter_child_nodes(node):
        _check(child, parameters, depth + 1)


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base).bit_length() * abs(exponent) > MOST_BITS:
        raise ValueError(f"a power of more than {MOST_BITS} bits")
    return base**exponent


def judge(constraints: Sequence[Constraint], where: str) -> Callable[[Mapping[str, Value]], Constraint | None]:
    """A function of a point that gives the first constraint it does not fulfil. That raises SuiteError for one that cannot be computed, or is no comparison.

    Raises: MissingExtra, unless there are no constraints.
    """
    if not constraints:
        return lambda _: None
    try:
        import simpleeval
    except ImportError:
        raise MissingExtra("simpleeval", needed_for="a sweep with constraints", extra="sweeps") from None
    operators = {**simpleeval.DEFAULT_OPERATORS, ast.Pow: _power, ast.Mod: _remainder}
    evaluator = simpleeval.EvalWithCompoundTypes(operators=operators, functions=dict(FUNCTIONS), names={})

    def refused(point: Mapping[str, Value]) -> Constraint | None:
        evaluator.names = point
        for constraint in constraints:
            try:
                holds = evaluator.eval(constraint.text, previously_parsed=constraint.tree)
            except (ArithmeticError, TypeError, ValueError, RecursionError, simpleeval.InvalidExpression) as error:
                raise SuiteError(f"{where}: constraint {constraint.text!r} cannot be computed for {dict(point)!r:.300}: {error}") from None
            if not isinstance(holds, bool):
                raise SuiteError(f"{where}: constraint {constraint.text!r} is {holds!r:.80}, neither true nor false. Compare it with something: ... == 0")
            if not holds:
                return constraint
        return None

    return refused


def _remainder(left: Any, right: Any) -> Any:
    if isinstance(left, str):  # % would format text
        raise TypeError("% is of numbers")
    return left % right
