"""A sample of small wrong changes to the commit and segment code, each of which the tests ought to notice.

    python -m tests.mutation [--sample 60] [--seed 1] [--folder FOLDER]

Each mutant is one change to one file in a copy of the tree: a comparison turned round, `+` for `-`, a constant one off,
a condition negated, a call left out. It is noticed when a test of `TESTS` fails or runs into its limit. Those that no
test notices are printed with their line; a person looks at each. The figure in docs/results/index.md comes from here.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

FILES = (
    *("shard", "code_files", "segments", "segment_format", "layout", "compaction"),
    *("recovery", "staging", "columns", "commit_page", "pages"),
)
TESTS = ("formats", "pages", "entries", "crash", "compaction", "snapshot", "rebuild", "shard_content", "power_loss")
LIMIT_S = 900
ROOT = Path(__file__).parents[1]
_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_SWAPPED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


class Mutator(ast.NodeTransformer):
    """Changes the n-th place that can be changed; counts all of them when n is -1."""

    def __init__(self, n: int) -> None:
        self._n = n
        self.count = 0
        self.line = 0
        self.what = ""

    def _here(self, node: ast.AST, what: str) -> bool:
        self.count += 1
        if self.count - 1 != self._n:
            return False
        self.line, self.what = getattr(node, "lineno", 0), what
        return True

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        turned = _TURNED.get(type(node.ops[0]))
        if turned is not None and self._here(node, f"{type(node.ops[0]).__name__} -> {turned.__name__}"):
            node.ops[0] = turned()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        swapped = _SWAPPED.get(type(node.op))
        if swapped is not None and self._here(node, f"{type(node.op).__name__} -> {swapped.__name__}"):
            node.op = swapped()
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        if self._here(node, "condition negated"):
            node.test = ast.UnaryOp(ast.Not(), node.test)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) is int and self._here(node, f"{node.value} -> {node.value + 1}"):
            return ast.Constant(node.value + 1)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Call) and self._here(node, f"left out: {ast.unparse(node)[:60]}"):
            return ast.Pass()
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node  # messages are for people

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node


def places(source: str) -> int:
    """How many places of a file can be changed."""
    counting = Mutator(-1)
    counting.visit(ast.parse(source))
    return counting.count


def noticed(tree: Path) -> bool:
    """Whether the tests fail, or do not end, in this copy of the tree."""
    tests = [f"tests/indexer/test_{name}.py" for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"--basetemp={tree}/.t", *tests]
    try:
        done = subprocess.run(command, cwd=tree, capture_output=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def sample(count: int, seed: int) -> Iterator[tuple[str, int]]:
    """(file, place) of so many mutants, spread over the files by their places."""
    every = [
        (f"indexer/{name}.py", place)
        for name in FILES
        for place in range(places((ROOT / f"indexer/{name}.py").read_text()))
    ]
    print(f"{len(every)} places in {len(FILES)} files", flush=True)
    yield from Random(seed).sample(every, min(count, len(every)))


def main() -> None:
    """Runs the sample and prints the score."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="where the copy is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        tree = Path(folder) / "tree"
        for name in ("dotstream", "indexer", "consumers", "tests", "producers"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        shutil.copytree(ROOT / "ops", tree / "ops", ignore=shutil.ignore_patterns("__pycache__"))
        if noticed(tree):
            sys.exit("the tests fail without any change")
        found = 0
        for total, (path, place) in enumerate(sample(arguments.sample, arguments.seed), 1):
            source = (ROOT / path).read_text()
            mutator = Mutator(place)
            changed = ast.unparse(ast.fix_missing_locations(mutator.visit(ast.parse(source))))
            (tree / path).write_text(changed)
            if noticed(tree):
                found += 1
            else:
                print(f"not noticed: {path}:{mutator.line} {mutator.what}", flush=True)
            (tree / path).write_text(source)
            print(f"{found} of {total} noticed", flush=True)


if __name__ == "__main__":
    main()
