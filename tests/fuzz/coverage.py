"""Which ways a package's code was gone: its branches are marked while it is imported."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

Way = tuple[int, int, int]
"""From which mark to which, and how often: once, twice, four times, eight times or more."""


class Coverage(MetaPathFinder):
    """Counts the steps from mark to mark in a copy of *package*, *beside* those of its modules that only search."""

    def __init__(self, package: str, beside: tuple[str, ...] = ()) -> None:
        self.marks = 0
        self.words: set[str] = set()
        self._package = package
        self._beside = beside
        self._steps: Counter[tuple[int, int]] = Counter()
        self._last = 0

    def load(self) -> ModuleType:
        """Import a marked copy of the package beside the one that the others use."""
        others = {name: module for name, module in sys.modules.items() if self._has(name)}
        for name in others:
            del sys.modules[name]
        sys.meta_path.insert(0, self)
        try:
            return import_module(self._package)
        finally:
            sys.meta_path.remove(self)
            for name in [name for name in sys.modules if self._has(name)]:
                del sys.modules[name]
            sys.modules.update(others)
            parent, _, child = self._package.rpartition(".")
            if self._package in others and parent:
                setattr(sys.modules[parent], child, others[self._package])

    def _has(self, name: str) -> bool:
        return f"{name}.".startswith(f"{self._package}.")

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if self._has(name) else None
        if spec and spec.origin and name not in self._beside:
            spec.loader = _Loader(name, spec.origin, self)
        return spec

    def mark(self, here: int) -> None:
        """Note that the code passes the mark *here*."""
        self._steps[self._last, here] += 1
        self._last = here

    def ways(self, run: Callable[[], object]) -> frozenset[Way]:
        """Return the ways that *run* goes."""
        self._steps.clear()
        self._last = 0
        run()
        return frozenset((*step, min(times.bit_length(), 4)) for step, times in self._steps.items())


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, coverage: Coverage) -> None:
        super().__init__(name, path)
        self._coverage = coverage

    def get_code(self, fullname: str) -> CodeType:  # neither from a cache nor into one
        tree = ast.parse(self.get_data(self.path), self.path)
        self._coverage.words.update(
            word
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            for word in node.value.replace("\n", "|").split("|")
        )
        code: CodeType = compile(ast.fix_missing_locations(_Marker(self._coverage).visit(tree)), self.path, "exec")
        return code

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__mark__"] = self._coverage.mark
        super().exec_module(module)


class _Marker(ast.NodeTransformer):
    """Puts a mark before each block, and before each expression that is evaluated only sometimes."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage

    def visit(self, node: ast.AST) -> Any:
        self.generic_visit(node)
        if isinstance(node, ast.BoolOp):
            node.values[1:] = map(self._marked, node.values[1:])
        elif isinstance(node, ast.IfExp):
            node.body, node.orelse = self._marked(node.body), self._marked(node.orelse)
        elif not isinstance(node, ast.Module | ast.ClassDef | ast.Lambda):
            for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
                if block:
                    block.insert(0, ast.Expr(self._mark()))
        return node

    def _mark(self) -> ast.expr:
        self._coverage.marks += 1
        return ast.Call(ast.Name("__mark__", ast.Load()), [ast.Constant(self._coverage.marks)], [])

    def _marked(self, value: ast.expr) -> ast.expr:
        return ast.BoolOp(ast.Or(), [self._mark(), value])
