"""The faults that can be planted in a module: small changes of its text, found in its syntax tree."""

import ast
import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SWAPS: dict[type[ast.AST], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
    ast.And: ("and", ("or",)),
    ast.Or: ("or", ("and",)),
    ast.Add: ("+", ("-",)),
    ast.Sub: ("-", ("+",)),
    ast.Mult: ("*", ("//",)),
    ast.Div: ("/", ("*",)),
    ast.FloorDiv: ("//", ("*",)),
    ast.Mod: ("%", ("//",)),
    ast.BitAnd: ("&", ("|",)),
    ast.BitOr: ("|", ("&",)),
    ast.LShift: ("<<", (">>",)),
    ast.RShift: (">>", ("<<",)),
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
NOT_MUTATED = re.compile(r"_?log\.|warnings\.|(typing\.)?(TypeVar|NewType|cast)\(")
"""Calls whose arguments change nothing that a test should see."""
WORD = re.compile(r"[\x21-\x7e]+")
"""Strings that mean something to a program. Sentences are left to the tests of pages and messages."""
WORDS = ast.JoinedStr | ast.List | ast.Tuple
RARE = 0.25
"""How much rarer a changed string is in a sample than any other fault: there are very many."""


@dataclass(frozen=True)
class Fault:
    """One change of one module; `lines` are those whose execution reaches it, none when it is reached by importing."""

    path: str
    function: str
    number: int
    line: str
    mutation: str
    start: int
    end: int
    text: str
    lines: frozenset[int]
    name: str
    weight: float

    @cached_property
    def key(self) -> tuple[str, str, str, str]:
        """The same as long as its line and its function are the same, wherever in its package the module moves."""
        return module_key(self.path), self.function, self.line, self.mutation

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]

    def rank(self, seed: int) -> float:
        """Where it stands in the sample of a seed: no other change of the tree moves it."""
        drawn = int.from_bytes(hashlib.sha256(repr((seed, self.key)).encode()).digest()[:7]) / 2**56
        return float(1 - drawn ** (1 / self.weight))


def module_key(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    return f"{parts[0]}:{parts[-2] if parts[-1] == '__init__' else parts[-1]}"


def faults_of(path: str, source: bytes) -> list[Fault]:
    """Every fault that can be planted; the second of two in one line that read the same is left out."""
    found: dict[tuple[str, str, str, str], Fault] = {}
    for fault in _Finder(path, source).faults(ast.parse(source)):
        found.setdefault(fault.key, fault)
    return list(found.values())


class _Finder:
    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._texts = source.decode().splitlines()
        self._function = ""
        self._statement: ast.stmt | None = None
        self._running = False

    def faults(self, node: ast.AST) -> Iterator[Fault]:
        if isinstance(node, ast.stmt):
            self._statement = node
        if self._left_out(node):
            return
        for start, end, text, weight in self._changes(node):
            yield self._fault(node, start, end, text, weight)
        before = self._function, self._statement, self._running
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._function = f"{self._function}.{node.name}".lstrip(".")
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "bases"}:
                continue
            if name == "body":
                self._running |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self.faults(child)
                    self._statement = before[1]
        self._function, self._statement, self._running = before

    def _left_out(self, node: ast.AST) -> bool:
        if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
            return True  # inside an f-string, Python 3.11 does not know where things stand
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return True
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in node.bases):
            return True
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return True
        call = node.value if isinstance(node, ast.Expr) else node
        return isinstance(call, ast.Call) and bool(NOT_MUTATED.match(self._text(*self._span(call))))

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, start: int, end: int) -> str:
        return self._source[start:end].decode()

    def _between(self, left: ast.expr, operator: ast.AST, right: ast.expr) -> Iterator[tuple[int, int, str, float]]:
        if type(operator) not in SWAPS:
            return
        old, new = SWAPS[type(operator)]
        start, end = self._span(left)[1], self._span(right)[0]
        at = self._source.find(old.encode(), start, end)
        if at >= 0:
            for text in new:
                yield at, at + len(old), text, 1.0

    def _changes(self, node: ast.AST) -> Iterator[tuple[int, int, str, float]]:
        match node:
            case ast.Compare(left, operators, rights):
                for one, operator, other in zip([left, *rights], operators, rights, strict=False):
                    yield from self._between(one, operator, other)
            case ast.BoolOp(operator, values):
                for one, other in itertools.pairwise(values):
                    yield from self._between(one, operator, other)
            case ast.BinOp(op=ast.BitOr()) if not self._running:
                pass  # a union of types
            case ast.BinOp(left, ast.Add(), right) if isinstance(left, WORDS) or isinstance(right, WORDS):
                pass  # text is not subtracted
            case ast.BinOp(left, operator, right) | ast.AugAssign(ast.Name() as left, operator, right):
                yield from self._between(left, operator, right)
            case ast.AugAssign(ast.Attribute() | ast.Subscript() as left, operator, right):
                yield from self._between(left, operator, right)
            case ast.UnaryOp(ast.Not() | ast.USub(), operand) if not isinstance(operand, ast.Constant):
                yield *self._span(node), f"({self._text(*self._span(operand))})", 1.0
            case ast.Name(id=name) if name in NAMES:
                yield *self._span(node), NAMES[name], 1.0
            case ast.Constant(value):
                for text in _other_constants(value):
                    yield *self._span(node), text, RARE if isinstance(value, str | bytes) else 1.0
        tests: list[ast.expr] = []
        match node:
            case ast.If(test) | ast.While(test) | ast.IfExp(test):
                tests = [test]
            case ast.comprehension(ifs=ifs):
                tests = ifs
        for test in tests:
            if not (isinstance(test, ast.UnaryOp) or (isinstance(test, ast.Compare) and len(test.ops) == 1)):
                yield *self._span(test), f"(not ({self._text(*self._span(test))}))", 1.0
        match node:
            case ast.Return(ast.expr() as returned) if ast.unparse(returned) != "None":
                yield *self._span(returned), "None", 1.0
            case ast.Break():
                yield *self._span(node), "continue", 1.0
            case ast.Continue():
                yield *self._span(node), "break", 1.0
            case ast.Return(None) | ast.Raise() | ast.Delete() | ast.Expr(ast.Call() | ast.Await()):
                yield *self._span(node), "pass", 1.0
            case ast.Assign([ast.Attribute() | ast.Subscript()]) | ast.AugAssign():
                yield *self._span(node), "pass", 1.0

    def _fault(self, node: ast.AST, start: int, end: int, text: str, weight: float) -> Fault:
        first, last = start, end
        if isinstance(node, ast.Return | ast.Compare | ast.BoolOp | ast.BinOp | ast.AugAssign):
            first, last = self._span(node)
        old, new = self._text(first, last), self._text(first, start) + text + self._text(end, last)
        number, ends = (self._source.count(b"\n", 0, place) + 1 for place in (start, end))
        statement = self._statement
        match statement:
            case ast.Assign([ast.Name(id=name)]) | ast.AnnAssign(ast.Name(id=name)):
                pass
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                pass
            case _:
                name = ""
        lines = {*range(number, ends + 1), *([statement.lineno] if statement else [])} if self._running else set()
        return Fault(
            path=self._path,
            function=self._function,
            number=number,
            line=self._texts[number - 1].strip(),
            mutation=f"{' '.join(old.split())} → {' '.join(new.split())}",
            start=start,
            end=end,
            text=text,
            lines=frozenset(lines),
            name=name,
            weight=weight,
        )


def _other_constants(value: object) -> list[str]:
    match value:
        case bool():
            return [repr(not value)]
        case int():
            return [repr(value + 1), f"({value - 1})"] if value < 10_000 else [repr(value * 2), repr(value // 2)]
        case float():
            return [repr(value * 2), repr(value / 2)] if value else ["1.0"]
        case str() | bytes() if WORD.fullmatch(value.decode("latin-1") if isinstance(value, bytes) else value):
            return [repr(value * 2)]
    return []
