"""What differs between two versions of a Go file; read as Go's own parser reads it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from gocover import PROGRAMS, Go

from pytest_kindcov.report import gosource

FILE = b"""\
// Package p does p.
package p

import (
\t"fmt"
\tstdlog "log"
)

//go:generate stringer
type T[K any] struct{ a K }

var lit = func() int { return 1 } // outside

// One is one.
func One(x int) (y interface{ M() }, err error) {
\tif x > 1 { // {
\t\treturn nil, fmt.Errorf("} %d `", x)
\t}
\treturn nil, nil
}

func (t *T[K]) Two() { stdlog.Print(`{
`, '{', '\\'') }

func init() { println() }
func init() {}

func three[A, B any](a A) struct{ b B } { return struct{ b B }{} }
"""

# What Go's own parser says of the functions of a file that have a body.
ORACLE = """\
package main

import ("encoding/json"; "go/ast"; "go/parser"; "go/token"; "io"; "os"; "strings")

func main() {
	found := map[string]map[string][2]int{}
	names, _ := io.ReadAll(os.Stdin)
	for _, name := range strings.Split(string(names), "\\n") {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil { continue }
		own := map[string][2]int{}
		twice := map[string]bool{}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil { continue }
			key := f.Name.Name
			if f.Recv != nil {
				t := f.Recv.List[0].Type
				if s, ok := t.(*ast.StarExpr); ok { t = s.X }
				switch i := t.(type) {
				case *ast.IndexExpr: t = i.X
				case *ast.IndexListExpr: t = i.X
				}
				key = t.(*ast.Ident).Name + "." + key
			}
			if key == "init" || key == "_" || twice[key] { continue }
			twice[key] = true
			at := func(p token.Pos) int { return set.PositionFor(p, false).Line }
			own[key] = [2]int{at(f.Pos()), at(f.End() - 1)}
		}
		found[name] = own
	}
	json.NewEncoder(os.Stdout).Encode(found)
}
"""


def _go(*words: str | Path, given: str = "") -> bytes:
    return subprocess.run(
        ["go", *words],
        env=Go().environment,
        input=given.encode(),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


def test_as_gos_parser_reads_it(tmp_path: Path) -> None:
    """The functions and their lines in much code that others wrote."""
    main = tmp_path / "main.go"
    main.write_text(ORACLE)
    root = Path(_go("env", "GOROOT").decode().strip())
    files = [*PROGRAMS.rglob("*.go"), *PROGRAMS.parents[1].glob("examples/**/*.go")]
    for package in ("cmd/cover", "net/http", "go/types", "runtime", "reflect", "fmt", "time"):
        files += (root / "src" / package).glob("*.go")
    expected = json.loads(_go("run", main, given="\n".join(map(str, files))))
    assert len(expected) > 500
    for name, own in expected.items():
        source = gosource.read(Path(name).read_bytes())
        found = {key: [one.first, one.last] for key, one in source.functions.items()}
        assert found == own, name


def test_functions_are_known() -> None:
    source = gosource.read(FILE)
    assert {name: (one.first, one.last) for name, one in source.functions.items()} == {
        "One": (15, 20),
        "T.Two": (22, 23),
        "three": (28, 28),
    }
    assert source.imports == {(b"", b"fmt"), (b"stdlog", b"log")}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"// Package p does p.", b"// Package p does more.\n// And more."),
        (b"\tif x > 1 { // {\n", b"\n\n\tif x   >\n\n 1 {\n"),
        (b"x > 1", b"x/* { */>// }\n1"),
        (b"return nil, nil\n", b"return nil, nil // nothing\n"),
        (b"func init() {}\n", b"func init() {\n}\n"),
        (b"// outside", b"//nolint:all"),
        (b"\n\treturn nil, nil\n", b";return nil, nil;\n"),
    ],
)
def test_layout_is_no_difference(old: bytes, new: bytes) -> None:
    assert old in FILE
    assert gosource.compare(FILE, FILE.replace(old, new)) == gosource.Change()


@pytest.mark.parametrize(
    ("old", "new", "functions"),
    [
        (b"x > 1", b"x >= 1", {"One"}),
        (b"x > 1", b"x > - 1", {"One"}),
        (b"return nil, nil", b"// return nil, nil", {"One"}),
        (b"} %d `", b"} %d", {"One"}),
        (b"`{\n`", b"`{`", {"T.Two"}),
        (b"'{'", b"'}'", {"T.Two"}),
        (b"return nil, nil\n", b"return nil, nil\n//go:noinline\n", {"One"}),
        # A function more, that only changed ones can call; written where a diff is misleading.
        (b"\treturn nil, nil\n}\n", b"\treturn four()\n}\n\nfunc four() (I, error) { }\n", {"One"}),
        (b"func three", b"func four() {}\nfunc three", set()),
        (FILE[FILE.index(b"func three") :], b"", {"three"}),
        # Order is none but of declarations that run.
        (FILE[FILE.index(b"func (t ") :], FILE[FILE.index(b"func init") :] + b"\nfunc (t *T[K]) "
         b"Two() { stdlog.Print(`{\n`, '{', '\\'') }\n", set()),
        (b'"fmt"', b'"fmt"\n\t"strings"', set()),
    ],
)  # fmt: skip
def test_functions_that_differ(old: bytes, new: bytes, functions: set[str]) -> None:
    assert old in FILE
    changed = FILE.replace(old, new)
    assert gosource.compare(FILE, changed) == gosource.Change(frozenset(functions))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"return 1", b"return 2", "outside of functions"),
        (b"{ a K }", b"{ b K }", "outside of functions"),
        (b"package p", b"//go:build linux\n\npackage p", "outside of functions"),
        (b"package p", b"// +build linux\n\npackage p", "outside of functions"),
        (b"//go:generate stringer", b"//go:generate other", "outside of functions"),
        (b"type T", b"// +kubebuilder:object:root=true\ntype T", "outside of functions"),
        (b"func init() {}", b"func init() { One(1) }", "outside of functions"),
        (b"func init() {}", b"func asm(int)", "outside of functions"),
        (b"func One(x int)", b"func One(x int64)", "the signature of One"),
        (b"func three[A, B any]", b"func three[A any, B ~int]", "the signature of three"),
        (b"func three", b"//go:noinline\nfunc three", "the signature of three"),
        (b"(t *T[K]) Two", b"(t T[K]) Two", "the signature of T.Two"),
        (
            b"func three",
            b"func (T[K]) String() string { return `` }\nfunc three",
            "T.String is new",
        ),
        (b"Two()", b"Three()", "method T."),
        (b"func three", b"func max(a, b int) int { return a }\nfunc three", "Go's own"),
        (b'"fmt"', b'"fmt"\n\t_ "expvar"', "imports"),
        (b'"fmt"', b'"fmt"\n\t"net/http/pprof"', "imports"),
        (b'"fmt"', b'fmt "strings"', "imports"),
        (b'"fmt"', b'"path/filepath"', ""),
        (b"func three", b"func three {", "cannot be read"),
        (b"func three", b"`func three", "cannot be read"),
        (b'"fmt"', b'"fmt"\n\t"C"', "outside of functions|C code|imports"),
    ],
)
def test_more_than_functions_differs(old: bytes, new: bytes, reason: str) -> None:
    assert old in FILE
    change = gosource.compare(FILE, FILE.replace(old, new, 1))
    assert any(part in change.reason for part in reason.split("|")), change
    assert bool(change.reason) == bool(reason)


def test_comments_before_c_are_code() -> None:
    file = b'package p\n\n/*\nint one() { return 1; }\n*/\nimport "C"\n\nfunc f() { C.one() }\n'
    assert gosource.compare(file, file.replace(b"return 1", b"return 2")).reason
    assert gosource.compare(file, file) == gosource.Change()


def test_a_name_is_not_bound_to_another_package() -> None:
    file = b'package p\n\nimport "path"\n\nfunc f() { path.Join("a") }\n'
    for other in (b'"net/url"', b'p "path"', b'. "path"', b'"example.com/path"'):
        change = gosource.compare(file, file.replace(b'"path"', other))
        assert (change.reason == "imports") == (other != b'"net/url"'), other
