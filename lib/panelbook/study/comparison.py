r"""Comparison: what math-verify is asked, and how.

Two formulas are read as LaTeX, and math-verify says whether they are equal. What this file adds is care about
what is read (a number is looked for in plain words only, never inside a formula), and speed: wrong answers
are refuted by their value where they can be, and the LaTeX reader is sped up. Neither changes a verdict that
math-verify gets right; a test compares them over all pairs of some formulas.

A comparison may never end; `worker` runs it where it can be killed.
"""

from __future__ import annotations

import logging
import math
import re
import zlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal

Verdict = Literal["correct", "wrong", "unparsable", "timeout"]

_WORD = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z]{3,}")
# Math between signs. Words in between, or a digit behind, mean currency: "$5 each, so $10 - $5 are left".
_DELIMITED = re.compile(rf"\$(?:(?!{_WORD.pattern})[^$])+\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
_SIGNS = re.compile(r"(?<!\\)\$|\\[()\[\]]")
_JOINT = re.compile(r",?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|(?<![a-zA-Z])(?:and|or)(?![a-zA-Z]))\s*")

# Signs that digits belong to an expression: commands, powers, operators between terms, 2x, 3(4), 10! (but an
# exclamation mark after words is one).
FORMULA = re.compile(
    r"\\[a-zA-Z]|[\^_√π]|[\w)}]\s*[+*/×·÷]\s*[\w({\\]|[\d)}]\s*-\s*[\d({\\]|\d[a-zA-Z(]|[a-zA-Z)]\d"
    r"|^[^a-zA-Z]*[\d)]\s*!"
)

# Compared once at the start, so that the parser's tables are filled before the first question.
_WARM_UP = (
    *(r"\frac{1}{2}", r"3\sqrt{2}+\pi", "2x+1", r"x=\frac{-1+\sqrt{5}}{2}", "1,3,5", "(1,2),(3,4)"),
    *(r"[-1, \infty)", r"2^{n}-\binom{n}{2}", r"\left\lfloor\frac{n}{2}\right\rfloor", r"45^{\circ}"),
    *(r"\text{even}", r"\log_2 5", r"62.5\%"),
)


def load_comparison() -> Callable[[str, str], Verdict]:
    r"""Import math-verify and return the function that asks it.

    Notes
    -----
    The prediction is read as LaTeX. Only a sentence in plain words is searched for a number instead: taking
    every number that can be found would read ``2\sqrt{3}`` as 2.
    """
    import math_verify  # here, because it takes half a second and only the nursery needs it

    logging.disable(logging.CRITICAL)
    _speed_up_latex_reading()
    latex, plain = math_verify.LatexExtractionConfig(), math_verify.ExprExtractionConfig()

    def read(text: str, config: object) -> list[Any]:
        options = {"parsing_timeout": None, "fallback_mode": "no_fallback"}
        found: list[Any] = math_verify.parse(text, extraction_config=[config], **options)
        return found

    def read_prediction(text: str) -> list[Any]:
        listed = _SIGNS.sub("", _JOINT.sub(", ", text))  # "$3$ and $5$" is the list 3, 5
        if not _WORD.search(listed):
            return read(f"${listed}$", latex)
        if _DELIMITED.search(text):
            return read(text, latex)
        conclusion = re.split(r"\n\s*\n", _SIGNS.sub("", text).strip())[-1]
        return ([] if FORMULA.search(conclusion) else read(conclusion, plain)) or read(f"${text}$", latex)

    @lru_cache(maxsize=4096)  # a gold is met once per draw
    def read_gold(text: str) -> list[Any]:
        return read(f"${_SIGNS.sub('', text)}$", latex)

    def compare(predicted: str, gold: str) -> Verdict:
        golds, predictions = read_gold(gold), read_prediction(predicted)
        if not (golds and predictions):
            return "unparsable"
        if _differ_in_value(golds[0], predictions[0]):
            return "wrong"
        return "correct" if math_verify.verify(golds, predictions, timeout_seconds=None) else "wrong"

    for formula in _WARM_UP:
        compare(formula, formula)
    return compare


def _differ_in_value(gold: Any, predicted: Any) -> bool:
    """Refute equality by numbers, which saves simplifying the difference: most wrong answers end here.

    Only by a wide margin. Whatever is close, or means more than its values (an inequality, a word, a
    percentage), is left to math-verify.
    """
    try:
        return any(_are_apart(_values(gold, scale), _values(predicted, scale)) for scale in (1.0, 37.0))
    except Exception:  # not a matter of values; sympy raises whatever it likes
        return False


def _are_apart(left: set[tuple[float, float]], right: set[tuple[float, float]]) -> bool:
    pairs = zip(sorted(left), sorted(right), strict=False)
    # Not-a-number compares as False, so it counts as close.
    return len(left) != len(right) or any(math.dist(x, y) > 1e-3 * max(1.0, math.hypot(*x)) for x, y in pairs)


def _values(formula: Any, scale: float) -> set[tuple[float, float]]:
    """Evaluate to (real, imaginary), each name a number of its own; a collection gives all its members."""
    import sympy  # type: ignore[import-untyped]
    from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]

    if isinstance(formula, sympy.FiniteSet | sympy.Tuple):
        return set().union(*(_values(member, scale) for member in formula.args))
    if isinstance(formula, sympy.Interval):
        return _values(formula.start, scale) | _values(formula.end, scale)
    if isinstance(formula, sympy.Eq) and isinstance(formula.lhs, sympy.Symbol | AppliedUndef):
        return _values(formula.rhs, scale)  # x = 5, f(x) = 2x: math-verify compares the right sides too
    if isinstance(formula, sympy.Symbol) or formula.has(sympy.UnevaluatedExpr):
        raise ValueError("a word or a percentage, not a value")
    # By name: the same symbol may be real on one side and complex on the other.
    point = {name: scale * (1 + zlib.crc32(str(name).encode()) % 997 / 613) for name in formula.free_symbols}
    value = complex(formula.evalf(12, subs=point))
    return {(round(value.real, 6), round(value.imag, 6))}


def _speed_up_latex_reading() -> None:
    """Make the LaTeX reader under math-verify about four times as fast, in the nursery only.

    ANTLR tries its fast prediction mode (SLL) before the full one (LL): by contract SLL gives the same tree
    or a syntax error, and then LL is run. And sympy, which reads every number in a namespace of its own,
    is given one instead of executing ``from sympy import *`` each time. The reader has options for neither.
    """
    from antlr4.atn.PredictionMode import PredictionMode  # type: ignore[import-untyped]
    from latex2sympy2_extended import latex2sympy2  # type: ignore[import-untyped]
    from sympy.parsing import sympy_parser  # type: ignore[import-untyped]

    class TwoStageParser(latex2sympy2._Latex2Sympy):  # type: ignore[misc]
        mode = PredictionMode.SLL

        def create_parser(self, latex: str) -> Any:
            parser = super().create_parser(latex)
            parser._interp.predictionMode = self.mode
            return parser

        def parse(self, latex: str) -> Any:
            try:
                return super().parse(latex)
            except Exception:
                self.mode = PredictionMode.LL
                return super().parse(latex)

    latex2sympy2._Latex2Sympy = TwoStageParser
    names: dict[str, Any] = {}
    exec("from sympy import *", names)
    sympy_parser.parse_expr = partial(sympy_parser.parse_expr, global_dict=names)
