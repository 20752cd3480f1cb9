"""Random edits of the orders example, the same ones for the same seed: as people make them, and
worse."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

# Methods by which a type satisfies an interface of the standard library.
_METHODS = (
    'func (x %s) String() string { return "s" }',
    'func (x %s) MarshalJSON() ([]byte, error) { return []byte("7"), nil }',
    "func (x *%s) UnmarshalJSON([]byte) error { return nil }",
    'func (x %s) Error() string { return "e" }',
    'func (x %s) MarshalText() ([]byte, error) { return []byte("t"), nil }',
    "func (x *%s) Flush() {}",
    "func (x %s) Is(error) bool { return true }",
    "func (x %s) unused() int { return 1 }",
)
# Names of Go's own, given another meaning for a whole package.
_SHADOWS = (
    "func max[T ~int64](a, b T) T { return min(a, b) }",
    "func len(x any) int { return 1 }",
    "func append[T any](a []T, b ...T) []T { return a }",
    "func recover() any { return nil }",
    "const nil_ = 0",
    "const true = false",
    "type string = []byte",
)
_INITS = (
    'func init() { coupons["STAFF30"] = 1 }',
    "func init() { clear(transitions) }",
    "func init() { errInternal.Error.Code = `other` }",
    "func init() {}",
)
_STATEMENTS = (
    "_ = 1",
    'if false { panic("never") }',
    'panic("here")',
    "return",
    "for range 3 { _ = 2 }",
    "defer func() {}()",
    "func() { _ = 3 }()",
)
_SWAPS = ("<", "<=", ">", ">=", "==", "!=", "+", "-", "*", "/", "&&", "||", ":=", "=")


@dataclass(frozen=True)
class Edit:
    """An edit of a working tree.

    Args:
        kind: of edit.
        what: in words, which.

    """

    kind: str
    what: str


def edit(
    root: Path, chance: random.Random, build: Callable[[], object], kinds: Sequence[str] = ()
) -> Edit:
    """Edit a copy of the example, so that it still compiles; `undo` takes it back.

    Args:
        root: of the copy.
        chance: of what.
        build: compiles it, or fails with an AssertionError.
        kinds: of edit; none: all.

    """
    while True:
        kind = chance.choice(kinds or list(_KINDS))
        what = _KINDS[kind](root, chance)
        if what:
            try:
                build()
            except AssertionError:
                pass
            else:
                return Edit(kind, what)
        undo(root)


def undo(root: Path) -> None:
    for words in (["checkout", "-q", "HEAD", "--", "."], ["clean", "-qfd"]):
        subprocess.run(["git", *words], cwd=root, check=True)


def _sources(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*.go") if not p.name.endswith("_test.go"))


def _lines(root: Path, chance: random.Random) -> tuple[Path, list[str], list[int]]:
    """A file, its lines, and those that are within a function."""
    file = chance.choice(_sources(root))
    lines = file.read_text().split("\n")
    inside, found = False, []
    for number, line in enumerate(lines):
        if line == "}":
            inside = False
        if inside and line.strip():
            found.append(number)
        if line.startswith("func ") and line.endswith("{"):
            inside = True
    return file, lines, found


def _write(root: Path, file: Path, lines: list[str], number: int) -> str:
    file.write_text("\n".join(lines))
    return f"{file.relative_to(root)}:{number + 1}: {lines[number].strip()}"


def _match(
    pattern: str, new: Callable[[re.Match[str], random.Random], str]
) -> Callable[[Path, random.Random], str]:
    """Replace a match of a pattern, somewhere that is no comment and no import."""

    def editor(root: Path, chance: random.Random) -> str:
        file = chance.choice(_sources(root))
        text = file.read_text()
        found = [
            match
            for match in re.finditer(pattern, text)
            if not re.match(
                r"\s*(//|import|\w* ?\"[\w./]+\"$)",
                text[text.rfind("\n", 0, match.start()) + 1 :].split("\n")[0],
            )
        ]
        if not found:
            return ""
        match = chance.choice(found)
        with_it = new(match, chance)
        file.write_text(text[: match.start()] + with_it + text[match.end() :])
        line = text.count("\n", 0, match.start()) + 1
        return f"{file.relative_to(root)}:{line}: {match[0]!r} to {with_it!r}"

    return editor


def _delete(root: Path, chance: random.Random) -> str:
    file, lines, inside = _lines(root, chance)
    inside = [n for n in inside if not lines[n].rstrip().endswith(("{", "}", "("))]
    if not inside:
        return ""
    number = chance.choice(inside)
    gone = lines.pop(number).strip()
    file.write_text("\n".join(lines))
    return f"{file.relative_to(root)}:{number + 1}: without {gone}"


def _insert(root: Path, chance: random.Random) -> str:
    file, lines, inside = _lines(root, chance)
    if not inside:
        return ""
    number = chance.choice(inside)
    lines.insert(number, chance.choice(_STATEMENTS))
    return _write(root, file, lines, number)


def _twice(root: Path, chance: random.Random) -> str:
    file, lines, inside = _lines(root, chance)
    if not inside:
        return ""
    number = chance.choice(inside)
    lines.insert(number, lines[number])
    return _write(root, file, lines, number)


def _swap(root: Path, chance: random.Random) -> str:
    file, lines, inside = _lines(root, chance)
    inside = [n for n in inside if n + 1 in inside]
    if not inside:
        return ""
    number = chance.choice(inside)
    lines[number : number + 2] = lines[number + 1], lines[number]
    return _write(root, file, lines, number)


def _append(texts: tuple[str, ...]) -> Callable[[Path, random.Random], str]:
    """Add a declaration at the end of a file, in a file of its own, or between two functions."""

    def editor(root: Path, chance: random.Random) -> str:
        file = chance.choice(_sources(root))
        text = file.read_text()
        types = re.findall(r"^type (\w+) (?!func)", text, re.MULTILINE)
        new = chance.choice(texts)
        if "%s" in new:
            if not types:
                return ""
            new %= chance.choice(types)
        match chance.randrange(3):
            case 0:
                file.write_text(f"{text}\n{new}\n")
            case 1:
                at = chance.choice([m.start() for m in re.finditer(r"^func ", text, re.M)] or [0])
                at = at and text.rfind("\n\n", 0, at) + 1
                file.write_text(f"{text[:at]}\n{new}\n{text[at:]}" if at else f"{text}\n{new}\n")
            case _:
                package = re.findall(r"^package \w+", text, re.M)[0]
                file = file.with_name("added.go")
                file.write_text(f"{package}\n\n{new}\n")
        return f"{file.relative_to(root)}: with {new}"

    return editor


def _helper(root: Path, chance: random.Random) -> str:
    """A new function, and a call of it."""
    file, lines, inside = _lines(root, chance)
    if not inside:
        return ""
    number = chance.choice(inside)
    lines.insert(number, f"helper({chance.randrange(9)})")
    where = chance.choice([n for n, line in enumerate(lines) if line == "}"])
    lines.insert(where + 1, "\nfunc helper(n int) {\n\tif n > 4 {\n\t\tpanic(n)\n\t}\n}")
    return _write(root, file, lines, number)


def _signature(root: Path, chance: random.Random) -> str:
    return _match(
        r"(?m)^func .*?\w\((?=[^()]*\)[^()]*\{$)", lambda m, _: m[0] + "_ ...int, "
    )(root, chance) if chance.random() < 0.3 else _match(
        r"(?m)(?<=\w)\) (?=\(?[\w*., ]*\)? ?\{$)", lambda m, _: ", _ ...int) "
    )(root, chance)  # fmt: skip


def _rename(root: Path, chance: random.Random) -> str:
    """A function gets another name, wherever it is named."""
    file = chance.choice(_sources(root))
    names = re.findall(r"^func (?:\([^)]*\) )?(\w+)\(", file.read_text(), re.M)
    name = chance.choice(names or [""])
    if not name or name in ("main", "Error", "WriteHeader", "Unwrap"):
        return ""
    for other in _sources(root):
        text = other.read_text()
        other.write_text(re.sub(rf"\b{name}\b(?!\")", name + "Renamed", text))
    return f"{file.relative_to(root)}: {name}"


def _file(root: Path, chance: random.Random) -> str:
    """A file moves, a function moves into another file, or a package's files join."""
    file = chance.choice(_sources(root))
    text = file.read_text()
    if chance.random() < 0.5:
        file.rename(file.with_name("moved_" + file.name))
        return f"{file.relative_to(root)}: moved"
    functions = re.findall(r"^func .*?^\}\n", text, re.M | re.S)
    if not functions:
        return ""
    function = chance.choice(functions)
    if chance.random() < 0.5:
        others = [
            one for one in file.parent.glob("*.go") if one != file and "_test" not in one.name
        ]
        if not others:
            return ""
        other = chance.choice(others)
        other.write_text(other.read_text() + "\n" + function)
        file.write_text(text.replace(function, ""))
    else:
        file.write_text(text.replace(function, "") + "\n" + function)
    return f"{file.relative_to(root)}: moved {function.splitlines()[0]}"


def _layout(root: Path, chance: random.Random) -> str:
    """Comments and blank lines."""
    file = chance.choice(_sources(root))
    lines = file.read_text().split("\n")
    number = chance.randrange(len(lines))
    lines.insert(number, chance.choice(["", "// a note", "/* a note */", "\t// TODO: more\n"]))
    return _write(root, file, lines, number)


def _import(root: Path, chance: random.Random) -> str:
    file = chance.choice(_sources(root))
    new = chance.choice(['_ "expvar"', '_ "strings"', '_ "net/http/pprof"', '_ "embed"'])
    file.write_text(file.read_text().replace("import (", f"import (\n\t{new}", 1))
    return f"{file.relative_to(root)}: {new}"


def _use(root: Path, chance: random.Random) -> str:
    """A function uses a package that its file did not import."""
    file, lines, inside = _lines(root, chance)
    name, call = chance.choice(
        [("strings", "ToUpper(`x`)"), ("sort", "Ints(nil)"), ("math", "Abs(1)")]
    )
    if not inside or f'"{name}"' in file.read_text():
        return ""
    number = chance.choice(inside)
    lines.insert(number, f"_ = {name}.{call}" if name != "sort" else f"{name}.{call}")
    file.write_text("\n".join(lines).replace("import (", f'import (\n\t"{name}"', 1))
    return f"{file.relative_to(root)}:{number + 1}: {name}"


def _embed(root: Path, chance: random.Random) -> str:
    """A type embeds another, whose methods become its own."""
    return _match(
        r"(?m)^type \w+ struct \{(?= *\n)",
        lambda m, c: m[0] + "\n\t" + c.choice(["fmtStringer", "http.Header", "error", "time.Time"]),
    )(root, chance)


def _other(root: Path, chance: random.Random) -> str:
    """A file that is no Go."""
    name, text = chance.choice(
        [
            ("README.md", "more\n"),
            ("deploy/deployment.yaml", "# more\n"),
            ("go.mod", "// more\n"),
            ("conftest.py", "# more\n"),
            ("tests/e2e/test_more.py", "def test_more(orders):\n    pass\n"),
            ("tests/e2e/data.json", "{}\n"),
            ("internal/api/more_test.go", "package api\n"),
        ]
    )
    with (root / name).open("a") as file:
        file.write(text)
    return name


_OPERATOR = r"(?<= )(?:<=?|>=?|==|!=|\+|-|\*|/|&&|\|\||:=|=)(?= )"
_KINDS: dict[str, Callable[[Path, random.Random], str]] = {
    "operator": _match(_OPERATOR, lambda _, chance: chance.choice(_SWAPS)),
    "number": _match(
        r"\b\d[\d_]*\b", lambda m, chance: str(max(0, int(m[0]) + chance.choice([-1, 1, 100])))
    ),
    "string": _match(r'"[^"\n]*"', lambda m, chance: chance.choice(['""', m[0][:-1] + 'x"'])),
    "tag": _match(r'json:"\w+', lambda m, _: m[0] + "x"),
    "condition": _match(r"(?<=\bif )[^{};\n]+(?= \{\n)", lambda m, _: f"!({m[0]})"),
    "identifier": _match(
        r"(?<=\bstore\.)Status\w+|(?<=\bhttp\.)Status\w+|StatusPaid|StatusNew",
        lambda m, chance: chance.choice(
            ["StatusNew", "StatusPaid", "StatusCancelled", "StatusOK", "StatusTeapot"]
        ),
    ),
    "delete": _delete,
    "insert": _insert,
    "twice": _twice,
    "swap": _swap,
    "helper": _helper,
    "use": _use,
    "signature": _signature,
    "method": _append(_METHODS),
    "shadow": _append(_SHADOWS),
    "init": _append(_INITS),
    "rename": _rename,
    "file": _file,
    "layout": _layout,
    "import": _import,
    "embed": _embed,
    "other": _other,
}

# Those that are mostly within functions.
INSIDE = ("operator", "string", "condition", "delete", "insert", "twice", "swap", "helper", "use")


def copy(source: Path, target: Path) -> None:
    """The example as a repository of its own."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *words], cwd=target, check=True)
