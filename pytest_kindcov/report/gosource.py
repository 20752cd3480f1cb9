"""Go source, as far as it takes to say what differs between two versions of a file.

By the tokens of go.dev/ref/spec#Lexical_elements: comments and layout are no difference, apart from
comments that tools read. No parser is at hand where there need be no Go; all that is asked here is
where top-level declarations begin and end. What is not understood is a difference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

_TOKEN = re.compile(
    rb"(?P<blank>[ \t\r]+)|(?P<newline>\n)"
    rb"|(?P<comment>//[^\n]*|/\*.*?\*/)"
    rb"|(?P<text>`[^`]*`|\"(?:[^\"\\\n]|\\[^\n])*\"|'(?:[^'\\\n]|\\[^\n])+')"
    rb"|(?P<word>[A-Za-z0-9_\x80-\xff]+)"
    rb"|(?P<operator><<=|>>=|&\^=|\.\.\.|&&|\|\||<-|\+\+|--|==|!=|<=|>=|:="
    rb"|[-+*/%&|^]=|<<|>>|&\^|[-+*/%&|^<>=!()\[\]{},;.:~])",
    re.DOTALL,
)
# After these a line break is a semicolon: go.dev/ref/spec#Semicolons. Words are, all of them here:
# a keyword does not end a line.
_ENDS = {b")", b"]", b"}", b"++", b"--"}
# Comments that Go or a generator of manifests reads: `//go:embed`, `// +kubebuilder:rbac`.
_DIRECTIVE = re.compile(
    rb"//(?!nolint)[a-z0-9]+:[a-z0-9]|//(line|export|extern|sys) |//\s*[+@]|/\*line "
)
_OPEN, _CLOSE = {b"(", b"[", b"{"}, {b")", b"]", b"}"}
# go.dev/ref/spec#Predeclared_identifiers: a declaration of such a name hides it from all others.
_PREDECLARED = frozenset(
    b"any bool byte comparable complex64 complex128 error float32 float64 int int8 int16 int32"
    b" int64 rune string uint uint8 uint16 uint32 uint64 uintptr true false iota nil append cap"
    b" clear close complex copy delete imag len make max min new panic print println real"
    b" recover".split()
)
# To load these does nothing that another package could notice.
_INERT = frozenset(
    b"bufio bytes cmp context encoding/base64 encoding/hex encoding/json errors fmt io iter maps"
    b" math math/bits net/url os path path/filepath reflect regexp slices sort strconv strings sync"
    b" sync/atomic time unicode unicode/utf8".split()
)

Token = tuple[bytes, int]
"""Its text, and the line on which it begins."""


class NotGo(ValueError):
    """A text cannot be read."""


@dataclass(frozen=True)
class Function:
    """A function or method that has a body.

    Args:
        method: whether it has a receiver.
        first: the line on which it begins.
        last: the line on which it ends.
        head: its directives, and all up to its body.
        body: with the literals in it.

    """

    method: bool
    first: int
    last: int
    head: tuple[bytes, ...]
    body: tuple[bytes, ...]


@dataclass
class Source:
    """A file.

    Args:
        functions: by name, `Type.Name` for methods. Of `init` and `_` there can be several: they
            are in the rest.
        imports: name ("" if none is given) and path.
        rest: all that is neither.
        comments: all comments, where they may be C.

    """

    functions: dict[str, Function] = field(default_factory=dict)
    imports: set[tuple[bytes, bytes]] = field(default_factory=set)
    rest: list[bytes] = field(default_factory=list)
    comments: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """What differs.

    Args:
        functions: names, as they were before, of those whose own code is another.
        reason: why other code may be concerned; "" if it certainly is not.

    """

    functions: frozenset[str] = frozenset()
    reason: str = ""


def compare(before: bytes, after: bytes) -> Change:
    """What differs between two versions of a file, one of which programs were built from.

    Code outside of the named functions does what it did, unless there is a reason: a declaration
    is looked up by its name, an interface is satisfied by methods, a signature decides the types
    of those who call. A function that is new or gone concerns only those who name it, which have
    changed then; but not a method, nor a name that has a meaning without it.
    """
    try:
        old, new = read(before), read(after)
    except NotGo as error:
        return Change(reason=f"it cannot be read: {error}")
    if reason := _rest(old, new):
        return Change(reason=reason)
    for name in old.functions.keys() ^ new.functions.keys():
        function = old.functions.get(name) or new.functions[name]
        how = "gone" if name in old.functions else "new"
        if function.method:
            return Change(reason=f"method {name} is {how}")
        if name.encode() in _PREDECLARED:
            return Change(reason=f"{name} is {how}, which is a name of Go's own")
    found = set()
    for name, was in old.functions.items():
        now = new.functions.get(name)
        if now is not None and now.head != was.head:
            return Change(reason=f"the signature of {name}")
        if now is None or now.body != was.body:
            found.add(name)
    return Change(frozenset(found))


def _rest(old: Source, new: Source) -> str:
    if old.rest != new.rest:
        return "declarations outside of functions"
    if old.comments != new.comments:
        return "it has C code, or comments that may be"
    gone, more = old.imports - new.imports, new.imports - old.imports
    if any(name or path not in _INERT for name, path in gone | more):
        return "imports"
    # `path.Join` of unchanged code must not become that of another package.
    ends = [path.rpartition(b"/")[2] for _, path in gone | more]
    return "imports" if len(set(ends)) < len(ends) else ""


@lru_cache(maxsize=64)  # a version is compared with several
def read(text: bytes) -> Source:
    """Read a file.

    Raises:
        NotGo: it is not Go, or not understood.

    """
    source = Source()
    cgo = b'"C"' in text
    directives: list[bytes] = []
    for tokens in _declarations(_tokens(text, cgo)):
        own = [word for word, _ in tokens]
        if own[0].startswith(b"/"):
            if cgo:
                source.comments += own
            directives += own
        elif own[0] == b"import":
            source.imports |= _imports(own[1:])
            source.rest += directives
            directives = []
        else:
            name, function = _function(tokens, directives) or ("", None)
            if function is None or name in ("init", "_") or name in source.functions:
                source.rest += directives + own
            else:
                source.functions[name] = function
            directives = []
    source.rest += directives
    return source


def _tokens(text: bytes, comments: bool) -> list[Token]:
    """All tokens, with the semicolons that line breaks stand for; and directives.

    Args:
        text: of a file.
        comments: whether all comments are to be kept.

    """
    found: list[Token] = []
    at, line, ends = 0, 1, False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotGo(f"line {line}")
        kind, word = match.lastgroup, match[0]
        at = match.end()
        breaks = word.count(b"\n")
        if kind in ("newline", "comment") and breaks and ends:
            found.append((b";", line))
            ends = False
        if kind == "comment":
            if comments or _DIRECTIVE.match(word):
                found.append((word.rstrip(), line))
        elif kind not in ("newline", "blank"):
            found.append((word, line))
            ends = kind in ("word", "text") or word in _ENDS
        line += breaks
    return found


def _declarations(tokens: list[Token]) -> list[list[Token]]:
    """Top-level declarations without the semicolons behind them, and directives between them."""
    found: list[list[Token]] = []
    current: list[Token] = []
    depth = 0
    for word, line in tokens:
        if word.startswith((b"//", b"/*")) and not current:
            found.append([(word, line)])
        elif word == b";" and depth == 0:
            if current:
                found.append(current)
            current = []
        else:
            current.append((word, line))
            depth += (word in _OPEN) - (word in _CLOSE)
            if depth < 0:
                raise NotGo(f"line {line}: {word.decode()}")
    if depth:
        raise NotGo("it ends within brackets")
    return [*found, current] if current else found


def _imports(words: list[bytes]) -> set[tuple[bytes, bytes]]:
    """Of an import declaration, without its keyword."""
    found = set()
    name = b""
    for word in words:
        if word[:1] in (b'"', b"`"):
            found.add((name, word[1:-1]))
            name = b""
        elif word not in (b"(", b")", b";"):
            name = word
    return found


def _function(tokens: list[Token], directives: list[bytes]) -> tuple[str, Function] | None:
    """Name and function of a declaration; None if it is none, or has no body."""
    # A directive behind the body, on its last line, is as good as before it.
    end = max((at for at, token in enumerate(tokens) if token[0] == b"}"), default=0)
    directives = [*directives, *(word for word, _ in tokens[end + 1 :])]
    tokens = tokens[: end + 1]
    words = [word for word, _ in tokens]
    if words[0] != b"func" or len(words) < 3:
        return None
    method = words[1] == b"("
    at = 1
    receiver = b""
    if method and b")" in words:
        at = words.index(b")") + 1
        # `(s *Store[K, V])`: the last name before the type's parameters.
        names = words[2 : words.index(b"[") if b"[" in words[:at] else at - 1]
        receiver = names[-1] + b"." if names else b""
    if at >= len(words):
        return None
    name = (receiver + words[at]).decode("utf-8", "replace")
    depth = 0
    for place in range(at + 1, len(words)):
        word = words[place]
        # A brace of a type is none of the body: `func f() interface{ Close() }`.
        if word == b"{" and depth == 0 and words[place - 1] not in (b"interface", b"struct"):
            head, body = (*directives, *words[:place]), tuple(words[place:])
            return name, Function(method, tokens[0][1], tokens[-1][1], head, body)
        depth += (word in _OPEN) - (word in _CLOSE)
    return None
