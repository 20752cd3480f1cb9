"""Every code block of the pages is what it says: it runs, or is checked by what would read it."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import mdblocks
import messages
import optionspage
import pytest
import yaml
from mdblocks import PAGES, ROOT, Block

from pytest_kindcov import cli, options
from pytest_kindcov.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BLOCKS = [block for page in PAGES for block in mdblocks.blocks(page)]
# Programs of others that pages call; what they are given is not checked here.
FOREIGN = {
    ".",
    "apt-get",
    "cd",
    "coverage",
    "curl",
    "docker",
    "git",
    "go",
    "kind",
    "kubectl",
    "pip",
}
FOREIGN |= {"podman", "python3", "sysctl"}
# Flags of plugins that a page says to install.
FOREIGN_FLAGS = {"--splits", "--group"}
# Where output is compared with what is really printed: by page, and how many blocks it has.
PRINTED = {
    "README.md": ("tests/cluster/test_example.py", 2),
    "docs/quickstart.md": ("tests/cluster/test_quickstart.py", 2),
}
# Their output is of one machine or one moment; what they are made of is checked below.
SHAPES = {"docs/air-gapped.md": 1, "docs/messages.md": 1}
SCHEMAS = {
    ".github/workflows/e2e.yml": "vendor.github-workflows",
    ".gitlab-ci.yml": "vendor.gitlab-ci",
    "codecov.yml": "vendor.codecov",
}


def _of(*languages: str) -> pytest.MarkDecorator:
    found = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=lambda block: block.name)


def test_every_block_is_claimed() -> None:
    claimed = {"sh", "text", "python", "yaml", "ini", "diff", "go", "groovy"}
    lost = [
        f"{block.name}: {block.language!r}" for block in BLOCKS if block.language not in claimed
    ]
    assert not lost
    assert len(BLOCKS) > 40


@pytest.fixture
def parse(pytester: pytest.Pytester) -> Callable[[list[str]], options.Settings]:
    """Read a command line as pytest does, with the plugin's own judgement of the values."""

    def settings(arguments: list[str]) -> options.Settings:
        ours, skip = [], False
        for word in arguments:
            if word in FOREIGN_FLAGS:
                skip = True
            elif skip:
                skip = False
            else:
                ours.append(word)
        return options.resolve(pytester.parseconfig(*ours))

    return settings


@_of("sh")
def test_commands(block: Block, parse: Callable[[list[str]], options.Settings]) -> None:
    _check_shell(block.text, parse)


def _check_shell(text: str, parse: Callable[[list[str]], options.Settings]) -> None:
    # What GitHub and GitLab put in.
    text = re.sub(r"\$\{\{.*?\}\}", "1", text)
    subprocess.run(["bash", "-n", "-c", text], check=True, timeout=60)
    for command in _commands(text):
        program, arguments = command[0], command[1:]
        if program == "pytest":
            parse([word for word in arguments if "*" not in word or word.startswith("-")])
        elif program == "kindcov":
            cli._parser().parse_args(arguments)
        elif program.startswith("script/"):
            assert (ROOT / program).stat().st_mode & 0o111
        else:
            assert program in FOREIGN, command
        if program == "python3" and arguments[0] != "-m":
            _check_script(arguments)


def _commands(text: str) -> Iterator[list[str]]:
    """Each command's words, without variables before it and what it is connected with."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;>")
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word[0] not in "&|;>":
                words.append(word)
                continue
            command = [*words]
            words = [""] if ">" in word else []  # a file's name follows
            while command and re.fullmatch(r"\w+=.*", command[0]):
                name = command.pop(0).partition("=")[0]
                known = {option.env for option in OPTIONS}
                assert not name.startswith("KINDCOV_") or name in known, name
            if command and command[0]:
                yield command


def _check_script(arguments: list[str]) -> None:
    script, *rest = arguments
    assert (ROOT / script).is_file(), script
    told = subprocess.run(
        [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, check=True
    ).stdout
    for word in rest:
        assert not word.startswith("-") or word in told, word


@_of("python")
def test_python(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compiles; one that imports what it needs also runs: it defines fixtures and tests."""
    monkeypatch.chdir(ROOT / "examples/orders")
    code = compile(block.text, str(block.page), "exec")
    if re.match(r"from|import", block.text):
        found: dict[str, Any] = {"__name__": "page"}
        exec(code, found)
        assert {name for name in found if not name.startswith("_")}


@_of("yaml")
def test_yaml(block: Block, parse: Callable[[list[str]], options.Settings], tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(block.text))
    assert all(documents)
    if block.file.endswith("role.yaml"):  # applied by tests/cluster/test_context.py
        assert [document["kind"] for document in documents] == ["ClusterRole"]
        return
    for text in _scripts(documents):
        _check_shell(text, parse)
    if not block.file:
        # A step of a job: it is judged in one.
        assert all(isinstance(each, list) for each in documents), f"{block.name}: which file?"
        job = {"runs-on": "ubuntu-latest", "steps": documents[0]}
        _check_schema({"on": "push", "jobs": {"e2e": job}}, ".github/workflows/e2e.yml", tmp_path)
    else:
        _check_schema(documents[0], block.file, tmp_path)


def _scripts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _scripts(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in ("run", "script", "before_script"):
                yield from [each] if isinstance(each, str) else each
            else:
                yield from _scripts(each)


def _check_schema(document: Any, file: str, tmp_path: Path) -> None:
    target = tmp_path / "document.yml"
    # PyYAML reads YAML 1.1, where `on` is true.
    document = {"on" if key is True else key: value for key, value in document.items()}
    target.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[file]]
    # GitLab's and GitHub's schemas have references to nothing outside themselves.
    done = subprocess.run(
        [*command, str(target)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_schemas_refuse(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        _check_schema({"on": "push", "jobs": {"e2e": {"step": []}}}, next(iter(SCHEMAS)), tmp_path)
    with pytest.raises(AssertionError):
        _check_schema({"e2e": {"script": ["true"], "artefacts": {}}}, ".gitlab-ci.yml", tmp_path)


def test_gitlab_finds_the_total() -> None:
    (job,) = [yaml.safe_load(block.text) for block in BLOCKS if block.file == ".gitlab-ci.yml"]
    pattern = job["e2e"]["coverage"].strip("/")
    summary = (ROOT / "README.md").read_text().partition("<!-- summary -->")[2]
    total = next(line for line in summary.splitlines() if line.startswith("TOTAL"))
    match = re.search(pattern, total)
    assert match is not None
    assert match[1] == total.split()[-1]


@_of("ini")
def test_ini(block: Block, pytester: pytest.Pytester) -> None:
    parser = configparser.ConfigParser()
    parser.read_string(block.text)
    known = {"kindcov_coverage", "addopts", "testpaths", *(option.ini for option in OPTIONS)}
    assert set(parser["pytest"]) <= known
    pytester.makeini(block.text)
    config = pytester.parseconfig("--strict-config")
    values = options.resolve(config)
    named = [key for key in parser["pytest"] if key.startswith("kindcov_")]
    assert all(key.removeprefix("kindcov_") in values.sources for key in named)


@_of("go")
def test_go(block: Block) -> None:
    done = subprocess.run(
        ["gofmt", "-e", "-l"], input=block.text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@_of("diff")
def test_diff(block: Block, tmp_path: Path) -> None:
    """Before and after, a file of its kind that its reader takes."""
    before, after = (
        "".join(line[1:] for line in block.text.splitlines(keepends=True) if line[0] in f" {sign}")
        for sign in "-+"
    )
    assert before != after
    for text in (before, after):
        if text.startswith("FROM"):
            _check_dockerfile(text)
        elif text.startswith(".PHONY"):
            _check_makefile(text, tmp_path)
        else:
            manifest = yaml.safe_load(text)
            assert manifest["kind"]
            assert manifest["apiVersion"]
    assert "cover" not in after.replace("kind-coverage", "")


def _check_dockerfile(text: str) -> None:
    for line in text.replace("\\\n", " ").splitlines():
        assert line.split()[0] in {"FROM", "WORKDIR", "COPY", "ARG", "RUN", "USER", "ENTRYPOINT"}
        if line.startswith("RUN"):
            subprocess.run(["bash", "-n", "-c", line.removeprefix("RUN")], check=True)


def _check_makefile(text: str, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(text)
    for line in text.splitlines():
        assert re.match(r"\t\S|[\w.-]+ ?:|$", line), line
    if shutil.which("make"):  # not on every machine that builds Go
        subprocess.run(["make", "-n", "test-e2e"], cwd=tmp_path, check=True, timeout=60)


@_of("groovy")
def test_groovy(block: Block, parse: Callable[[list[str]], options.Settings]) -> None:
    """Its shell commands; and as much of Groovy as can be seen without Java."""
    for text in re.findall(r"sh '''(.*?)'''", block.text, re.DOTALL):
        _check_shell(text, parse)
    rest = re.sub(r"'''.*?'''|'[^'\n]*'", "''", block.text, flags=re.DOTALL)
    for opening, closing in ("{}", "()", "[]"):
        assert rest.count(opening) == rest.count(closing)
    assert '"' not in rest


def test_output_is_compared_or_explained() -> None:
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        count = len([block for block in BLOCKS if block.page == page and block.language == "text"])
        test, most = PRINTED.get(name, ("", 0))
        assert count == (SHAPES.get(name, 0) if not test else count), name
        assert not test or (ROOT / test).is_file()
        assert count >= most


@_of("text")
def test_messages_that_are_shown(block: Block) -> None:
    """A name in brackets is explained; a line of the doctor's is one of its checks."""
    for slug in re.findall(r"^ERROR.*\[([a-z0-9-]+)\]$", block.text, re.MULTILINE):
        assert slug in messages.documented()
    said = (ROOT / "pytest_kindcov/doctor.py").read_text()
    said += (ROOT / "pytest_kindcov/cluster/preflight.py").read_text()
    for check in re.findall(r"^(?:ok|warn|fail) +([a-z ]+): ", block.text, re.MULTILINE):
        assert f'"{check}"' in said, check


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_named_exists(page: Path) -> None:
    """Flags, keys, variables, names of messages, links and their anchors."""
    text = page.read_text()
    known = {"--kind-coverage", "--no-kind-coverage", *(option.flag for option in OPTIONS)}
    for flag in re.findall(r"--(?:no-)?kind-coverage[a-z-]*", text):
        assert flag in known, flag
    keys = {"kindcov_coverage", *(option.ini for option in OPTIONS)}
    assert set(re.findall(r"\bkindcov_[a-z_]+", text)) <= keys
    variables = {option.env for option in OPTIONS}
    variables |= {"KINDCOV_GO", "KINDCOV_DEBIAN_MIRROR"}  # of nodeimage/build.py
    assert set(re.findall(r"\bKINDCOV_[A-Z_]+", text)) <= variables
    for target in re.findall(r"\]\((?!http)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        if anchor:
            assert anchor in _anchors(other), target


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_names_in_tables_are_messages() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text()
    names = re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)
    assert names
    assert set(names) <= set(messages.documented())


def test_options_page_is_current() -> None:
    assert optionspage.page() == optionspage.PAGE.read_text(), (
        "write it anew: PYTHONPATH=.:tests/support python tests/support/optionspage.py"
    )


def test_how_output_is_compared() -> None:
    """Where lines differ, are missing or are not next to each other, it is seen."""
    printed = "kindcov:   3.1 s  built\na\nb  10.5 s\nc\n== 1 passed in 3.33s ==\n"
    assert (
        mdblocks.shows("kindcov:   0.9 s  built\na\nb  1.0 s\nc\n= 1 passed in 9.01s =", printed)
        == ""
    )
    assert mdblocks.shows("a\n…\nc", printed) == ""
    assert mdblocks.shows("a\nc", printed).startswith("c")
    assert mdblocks.shows("a\nd", printed) == "d"
    assert mdblocks.shows("c\na", printed) == "a"
    assert mdblocks.shows("kindcov: 1.0 s deployed", printed) != ""
