"""The stage that finds the program in an answer and runs it against its tests.

An answer is read as a notebook: its blocks of code in order, in one namespace, each compiled by itself (so that `from
__future__` may begin any of them), and none as `__main__`. The block that defines what the tests need must run to its
end; of all others, only imports and definitions are taken, and those that fail are passed over.
"""

from __future__ import annotations

import _ast
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all that is done here
    from typing import Any

_TREE_ONLY, _FUTURE_ANNOTATIONS = 0x400, 0x1000000  # flags of `compile`
_LANGUAGES = {"", "code", "text", "txt", "plaintext", "ipython", "sage"}  # and whatever begins with py
_INVISIBLE = {"\r\n": "\n", "\r": "\n", "\u00a0": " ", "\u200b": "", "\ufeff": ""}

Unit = tuple[_ast.Module, int, bool]
"""A tree, the flags to compile it with, and whether it must run to its end."""


def main(job: dict[str, Any]) -> None:
    """Run the job's answer, then its test, and say on stdout that the end was reached: with the mark that the job
    holds.
    """
    sys.path.extend(job["path"])
    said = posix.dup(1)
    silent = posix.open("/dev/null", posix.O_RDWR)
    for number in (0, 1):
        posix.dup2(silent, number)
    posix.close(silent)
    mark: bytes = job.pop("mark")
    module = type(sys)("program")
    sys.modules["program"] = module  # dataclasses and pickle look it up
    if "program" in job:
        exec(compile(job["program"], "program.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102  why the sandbox is there
    else:
        units = units_of(job["question"], job["response"], job["entry"], job["test"])
        if units is None:
            posix.write(said, b"no code")
            posix._exit(0)
        _run(units, module.__dict__)
        exec(compile(job["test"], "test.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        if job["entry"]:
            module.__dict__["check"](module.__dict__[job["entry"]])
    posix.write(said, mark)
    posix._exit(0)


def _run(units: list[Unit], namespace: dict[str, Any]) -> None:
    for tree, flags, needed in units:
        try:
            exec(compile(tree, "program.py", "exec", flags, dont_inherit=True), namespace)  # noqa: S102
        except BaseException:
            if needed:
                raise


# -- which code is meant
# ------------------------------------------------------------------------------------------------


def units_of(question: str, response: str, entry: str, test: str) -> list[Unit] | None:
    """The code to run, in order; None where there is none that could pass.

    What the tests need is `entry`, or any name in them. The last block that defines it counts; else the code outside of
    blocks that does; else what goes on where the question's code ends.
    """
    question, response = _plain(question), _plain(response)
    asked = _unfinished(question)
    wanted = {entry} if entry else _names(_parse(test))
    blocks, outside = _blocks(response)
    trees = [_block_tree(text) for _, text in blocks]
    head = _head(asked)
    at = [i for i, tree in enumerate(trees) if tree is not None and wanted & _defined(tree.body)]
    if at:
        return [*head, *_notebook(blocks, trees, at[-1])]
    bare = _statements(outside)
    bare = bare if wanted & _defined(bare) else _statements(_without_margins(outside)) or bare
    helpers = _notebook(blocks, trees, None)
    if wanted & _defined(bare):
        return [*head, *helpers, *_each(bare)]
    for text in sorted([text for _, text in reversed(blocks)] + [outside], key=_unlike_a_body):
        if entry and (whole := _continued(asked, text, entry)) is not None:
            return [*helpers, (whole, 0, True)]
    if entry:
        return None
    alone = [i for i, tree in enumerate(trees) if tree is not None and tree.body and _python(blocks[i][0])]
    if alone:
        return [*head, *_notebook(blocks, trees, alone[-1])]
    return [*head, *_each(bare)] if bare else None


def _notebook(blocks: list[tuple[str, str]], trees: list[_ast.Module | None], main: int | None) -> list[Unit]:
    units: list[Unit] = []
    for i, tree in enumerate(trees):
        if tree is None:
            continue
        if i == main:
            units.append((tree, 0, True))
        elif _python(blocks[i][0]):
            units += _each(tree.body)
    return units


def _each(body: list[_ast.stmt]) -> list[Unit]:
    """What a block adds to a program, statement by statement: imports, definitions, and constants."""
    flags = _FUTURE_ANNOTATIONS if any(isinstance(s, _ast.ImportFrom) and s.module == "__future__" for s in body) else 0
    return [(_ast.Module(body=[s], type_ignores=[]), flags, False) for s in body if _defines(s)]


def _defines(statement: _ast.stmt) -> bool:
    if isinstance(statement, _ast.AnnAssign):
        return statement.value is not None
    if isinstance(statement, (_ast.If, _ast.Try)):
        inner = [*statement.body, *statement.orelse]
        return all(_defines(s) or isinstance(s, _ast.Pass) for s in inner)
    kinds = (
        _ast.Import,
        _ast.ImportFrom,
        _ast.FunctionDef,
        _ast.AsyncFunctionDef,
        _ast.ClassDef,
        _ast.Assign,
        _ast.AugAssign,
    )
    return isinstance(statement, kinds)


def _defined(body: list[_ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, (_ast.FunctionDef, _ast.AsyncFunctionDef, _ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (_ast.If, _ast.Try)):
            names |= _defined([*node.body, *node.orelse])
        targets = (
            node.targets if isinstance(node, _ast.Assign) else [node.target] if isinstance(node, _ast.AnnAssign) else []
        )
        names |= {t.id for t in targets if isinstance(t, _ast.Name)}
    return names


def _names(tree: _ast.AST | None) -> set[str]:
    """Every name that is read anywhere in a tree."""
    found, left = set(), [tree]
    while left:
        node = left.pop()
        if isinstance(node, _ast.Name):
            found.add(node.id)
        for field in getattr(node, "_fields", ()):
            value = getattr(node, field, None)
            left += value if isinstance(value, list) else [value] if isinstance(value, _ast.AST) else []
    return found


def _python(language: str) -> bool:
    return language in _LANGUAGES or language.startswith("py")


# -- the question's own code
# --------------------------------------------------------------------------------------------


def _unfinished(question: str) -> str:
    """The code that the question ends with, which an answer may go on with; empty where it ends with none."""
    blocks, _ = _blocks(question)
    lines = question.rstrip().split("\n")
    starts = [
        i for i, line in enumerate(lines) if line.startswith(("def ", "class ", "import ", "from ", "@", "async def "))
    ]
    texts = [text for _, text in reversed(blocks)] + [question] + ["\n".join(lines[i:]) for i in starts[:20]]
    for text in texts:
        body = text.rstrip()
        if body and (_parse(f"{body}\n    pass\n") or _parse(body)):
            return body
    return ""


def _head(asked: str) -> list[Unit]:
    """What the question defines before the function that it asks for."""
    tree = _parse(f"{asked}\n    pass\n") or _parse(asked)
    return _each(tree.body[:-1]) if tree is not None else []


def _unlike_a_body(text: str) -> int:
    """0 for what can only be the rest of a function: it is indented; 1 for what gives something back; 2 for the
    rest.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    if lines and lines[0][0].isspace():
        return 0
    return 1 if any(line.lstrip().startswith(("return", "yield")) for line in lines) else 2


def _continued(asked: str, text: str, entry: str) -> _ast.Module | None:
    """The question's code and the text behind it, as far as both are one program that defines `entry`."""
    before = asked.split("\n")
    lines = text.rstrip().split("\n")
    while lines and not lines[0].strip():
        del lines[0]
    if not asked or not lines:
        return None
    rest = [line for line in lines[1:] if line.strip()]
    step = rest[0][: len(rest[0]) - len(rest[0].lstrip())] if rest else ""
    if any("\t" in line for line in lines) and "\t" not in asked:
        lines = [line.expandtabs(4) for line in lines]
    as_block = [f"    {line}" if line.strip() else "" for line in lines]
    forms = [lines] if lines[0][:1].isspace() else [[(step or "    ") + lines[0], *lines[1:]], as_block]
    for form in forms:
        tree, used = _longest([*before, *form])
        if tree is not None and used > len(before) and entry in _defined(tree.body):
            return tree
    return None


# -- where code stands
# --------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    for written, meant in _INVISIBLE.items():
        text = text.replace(written, meant)
    for mark in ("[PYTHON]", "[/PYTHON]"):
        text = text.replace(mark, "\n```\n")
    return text


def _blocks(text: str) -> tuple[list[tuple[str, str]], str]:
    """Return ((language, code) of each fenced block, what stands outside of them). A fence may open and close within a
    line.
    """
    blocks: list[tuple[str, str]] = []
    outside: list[str] = []
    at = 0
    while (opened := _fence(text, at)) is not None:
        start, mark = opened
        outside.append(text[at:start])
        language, code, at = _block(text, start + len(mark), mark)
        blocks.append((language, code))
    outside.append(text[at:])
    return blocks, "\n".join(outside)


def _fence(text: str, at: int) -> tuple[int, str] | None:
    """Return (where, which marks) the next fence is: three or more backticks anywhere, or tildes that begin a line."""
    ticks = text.find("```", at)
    tildes = text.find("~~~", at)
    while tildes >= 0 and text[text.rfind("\n", 0, tildes) + 1 : tildes].strip(" \t>"):
        tildes = text.find("~~~", tildes + 3)
    start = min((i for i in (ticks, tildes) if i >= 0), default=-1)
    if start < 0:
        return None
    end = start
    while end < len(text) and text[end] == text[start]:
        end += 1
    return start, text[start:end]


def _block(text: str, start: int, mark: str) -> tuple[str, str, int]:
    """Return (language, code, where the text goes on) of the block whose opening fence ends at `start`.

    Of several fences that may close it, the first behind which the code can be parsed: docstrings hold fences too.
    """
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    first: tuple[int, int] | None = None
    at, tried = start, 0
    while tried < 20 and (end := text.find(mark, at)) >= 0:
        at = end + len(mark)
        while text[at : at + 1] == mark[0]:
            at += 1
        opens = text[at : at + 1].isalnum()  # a language follows: this fence opens the next block
        first = first or (end, end if opens else at)
        language, code = _labelled(text[start:end], line_end - start)
        if _python(language) and _block_tree(code, repair=False) is not None:
            return language, code, at
        tried += 1
        if opens:
            break
    if first is not None:
        language, code = _labelled(text[start : first[0]], line_end - start)
        return language, code, first[1]
    language, code = _labelled(text[start:], line_end - start)
    return language, code, len(text)


def _labelled(text: str, line: int) -> tuple[str, str]:
    """Return (language, code) of what stands behind an opening fence; `line` is the length of the rest of its line."""
    label, code = text[:line], text[line + 1 :]
    words = label.split(None, 1)
    if line >= len(text):  # all in one line
        if words and (_python(words[0].lower())):
            return words[0].lower(), words[1] if len(words) > 1 else ""
        return "", label
    language = words[0].strip("{}.").lower() if words else ""
    if len(words) == 2 and _parse(words[1]) is not None and not code.strip():
        code = words[1]
    return language, code


def _block_tree(text: str, *, repair: bool = True) -> _ast.Module | None:
    """The code of a block: as it is, without what all its lines begin with, or (repair) without the lines that are no
    code.
    """
    for form in (text, _dedented(text), _unquoted(text)):
        if form is not None and (tree := _parse(form)) is not None:
            return tree
    found = _statements(_dedented(text) or text) if repair else []
    return _ast.Module(body=found, type_ignores=[]) if found else None


def _dedented(text: str) -> str | None:
    lines = text.split("\n")
    widths = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    width = min(widths, default=0)
    return "\n".join(line[width:] for line in lines) if width else None


def _unquoted(text: str) -> str | None:
    lines = [line.lstrip() for line in text.strip("\n").split("\n")]
    if lines and all(line.startswith(">") or not line for line in lines[:-1]):
        return "\n".join(line[2:] if line.startswith("> ") else line.lstrip(">") for line in lines)
    return None


def _statements(text: str) -> list[_ast.stmt]:
    """The statements of code between which words stand: from each line on, as much as can be parsed."""
    lines = text.split("\n")
    found: list[_ast.stmt] = []
    at, tries = 0, 0
    while at < len(lines) and tries < 2000:
        line = lines[at]
        if not line.strip() or line[0].isspace():
            at += 1
            continue
        tries += 1
        tree, used = _longest(lines[at:])
        found += [s for s in tree.body if _defines(s)] if tree is not None else []
        at += max(1, used)
    return found


def _without_margins(text: str) -> str:
    """The text with each run of indented lines moved to the margin: code that Markdown marks by its indentation."""
    found: list[str] = []
    run: list[str] = []
    for line in [*text.split("\n"), "end"]:
        if line[:1].isspace() or not line:
            run.append(line)
            continue
        moved = _dedented("\n".join(run)) if run else None
        found += run if moved is None else moved.split("\n")
        run = []
        found.append(line)
    return "\n".join(found[:-1])


def _longest(lines: list[str]) -> tuple[_ast.Module | None, int]:
    """Return (the tree, the number of lines) of the longest beginning that can be parsed, going back from error to
    error.
    """
    end = len(lines)
    for _ in range(200):
        if not end:
            break
        try:
            return _compiled("\n".join(lines[:end]) + "\n"), end
        except SyntaxError as error:
            end = min(end - 1, (error.lineno or 1) - 1)
        except (ValueError, RecursionError, MemoryError):
            break
    return None, 0


def _parse(text: str) -> _ast.Module | None:
    try:
        return _compiled(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _compiled(text: str) -> _ast.Module:
    tree = compile(text, "program.py", "exec", _TREE_ONLY, dont_inherit=True)
    assert isinstance(tree, _ast.Module)  # noqa: S101
    return tree
