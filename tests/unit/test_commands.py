"""No command is built from data: shells run fixed scripts, and what varies comes as `$1`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_kindcov"
SHELLS = {"sh", "bash"}
# Functions that give a string to a shell.
FORBIDDEN = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
}


def scripts(node: ast.AST, scope: ast.AST) -> list[tuple[ast.expr, ast.AST]]:
    """What is given to a shell, each with the function, or the module, that does it."""
    found: list[tuple[ast.expr, ast.AST]] = []
    if isinstance(node, ast.List | ast.Tuple):
        words = [each.value if isinstance(each, ast.Constant) else None for each in node.elts]
        if "-c" in words[:-1] and SHELLS & set(words):
            found.append((node.elts[words.index("-c") + 1], scope))
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "script":
        found.append((node.args[0], scope))
    inner = node if isinstance(node, ast.FunctionDef) else scope
    for child in ast.iter_child_nodes(node):
        found += scripts(child, inner)
    return found


def fixed(value: ast.expr, scope: ast.AST, tree: ast.Module) -> bool:
    """Whether a string is made of literals and of constants alone."""
    if isinstance(value, ast.Constant):
        return True
    if isinstance(value, ast.JoinedStr | ast.Dict):
        return all(fixed(each, scope, tree) for each in value.values)
    if isinstance(value, ast.FormattedValue):
        return fixed(value.value, scope, tree)
    if isinstance(value, ast.BinOp):
        return fixed(value.left, scope, tree) and fixed(value.right, scope, tree)
    if not isinstance(value, ast.Name):
        return False
    sources: list[ast.expr] = []
    for node in ast.walk(tree if value.id.isupper() else scope):
        if isinstance(node, ast.ImportFrom):
            if value.id in {alias.asname or alias.name for alias in node.names}:
                return value.id.isupper()
        elif isinstance(node, ast.Assign):
            if value.id in {each.id for each in node.targets if isinstance(each, ast.Name)}:
                sources.append(node.value)
        elif isinstance(node, ast.comprehension | ast.For):  # `for name, script in A.items()`
            if value.id in {
                each.id for each in ast.walk(node.target) if isinstance(each, ast.Name)
            }:
                sources += [each for each in ast.walk(node.iter) if isinstance(each, ast.Name)]
        elif isinstance(node, ast.FunctionDef) and value.id in {
            each.arg for each in (*node.args.args, *node.args.kwonlyargs)
        }:
            return node.name == "script"  # its callers are looked at
    return bool(sources) and all(fixed(each, scope, tree) for each in sources)


@pytest.mark.parametrize(
    "module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_shells_run_fixed_scripts(module: Path) -> None:
    tree = ast.parse(module.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in FORBIDDEN, f"line {node.lineno}"
            assert not any(
                each.arg == "shell" and getattr(each.value, "value", True) is not False
                for each in node.keywords
            ), f"line {node.lineno}"
    for script, scope in scripts(tree, tree):
        assert fixed(script, scope, tree), f"line {script.lineno}: {ast.unparse(script)}"


@pytest.mark.parametrize(
    "source",
    [
        'run(["sh", "-c", f"cat {name}"])',
        'run(["bash", "-c", "cat " + name])',
        'node.script("rm %s" % name)',
        'node.script(f"rm {member.name}")',
        "def act(name):\n    node.script(name)",
        'for name in files:\n    node.script(f"rm {name}")',
    ],
)
def test_what_is_not_fixed_is_seen(source: str) -> None:
    tree = ast.parse(source)
    ((script, scope),) = scripts(tree, tree)
    assert not fixed(script, scope, tree)
