"""The scorers `code` and `code-trusted`: a program passes its tests, or it does not."""

from __future__ import annotations

import ast
import re

from r2router.bench.scoring.sandbox import Limits, run
from r2router.bench.suite import Query, Score
from r2router.bench.thinking import without_thinking
from r2router.errors import DataError

_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


class Code:
    """1 where the response's Python code passes the tests in the query's meta, as HumanEval has them.

    `test` is a program; with `entry_point`, it defines `check(candidate)`, which is called with that function. A response may be a
    whole program, in a fence or bare, or only the rest of the program that the question begins. Nothing is run where the network cannot
    be cut off (see `r2router.bench.scoring.sandbox`).
    """

    name = "code"
    isolated = True
    limits = Limits()

    def score(self, query: Query, response: str) -> Score:
        """1 or 0; no quality where the query has no tests, or code cannot be run here."""
        test, entry = query.meta.get("test"), query.meta.get("entry_point", "")
        if not isinstance(test, str) or not test.strip() or not isinstance(entry, str) or (entry and not entry.isidentifier()):
            return Score(quality=None, judge=self.name, error="the query's meta has no test (and entry_point) to run")
        program = program_of(query.text, without_thinking(response), entry)
        if program is None:
            return Score(quality=0.0, judge=self.name, reason="no Python code in the response")
        call = f"\ncheck({entry})\n" if entry else "\n"
        try:
            ran = run(f"{program}\n{test}{call}", self.limits, isolated=self.isolated)
        except DataError as error:
            return Score(quality=None, judge=self.name, error=str(error))
        return Score(quality=float(ran.finished), judge=self.name, reason=ran.why)


class TrustedCode(Code):
    """As `Code`, with the limits alone where the network cannot be cut off. Use it in a container, or on code that you trust."""

    name = "code-trusted"
    isolated = False


def program_of(question: str, response: str, entry: str = "") -> str | None:
    """The program that a response means; None where it holds no Python.

    Of fenced blocks the last that defines `entry` (or the last that parses); else the response itself, or the response behind the code
    that the question begins.
    """
    blocks = [m[2] for m in _FENCE.finditer(response)]
    texts = [*reversed(blocks), response] if blocks else [response, response.strip("\n")]
    for text in texts:
        tree = _parsed(text)
        if tree is not None and tree.body and (not entry or entry in _defined(tree)):
            head = _imports(question)
            return f"{head}\n{text}" if head else text
    if entry:
        for text in texts:
            whole = f"{question.rstrip()}\n{text if text.startswith((' ', chr(9))) else _indented(text)}"
            tree = _parsed(whole)
            if tree is not None and entry in _defined(tree):
                return whole
    return None


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _defined(tree: ast.Module) -> set[str]:
    names = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return names | {t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)}


def _imports(question: str) -> str:
    """The imports and functions before the function that the question asks for, where it is code."""
    tree = _parsed(f"{question.rstrip()}\n    pass\n") or _parsed(question)
    if tree is None:
        return ""
    return "\n".join(ast.unparse(node) for node in tree.body[:-1] if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef)))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line.strip() else line for line in text.splitlines())
