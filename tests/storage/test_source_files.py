"""What the digest of a source file covers, under every Python version, and how it is kept."""

import ast
import json

import pytest

import storage.source_files as source_files
from storage.source_files import read_part, read_source, store_sources

# Syntax whose trees differ between Python versions, or could.
SNIPPET = '''
"""About this module."""
from dataclasses import dataclass, field
import numpy as np, os.path

@dataclass(frozen=True)
class Config:
    """A configuration."""
    steps: int = 3
    """An attribute's remark."""
    threads: int = field(default=2, metadata={"how": True})

async def both(a, /, b: int = 1, *args, c=..., **kwargs) -> list[str]:
    "Says something."
    name = f"{a!r:>{b}}" "x" f"{{{b:.2f}}} {c=}" rf"\\d{a}"
    match a:
        case {"k": [1, *rest]} if (n := len(rest)) > -1:
            return [i for i in rest if i is not None]
    try:
        return [*args, b"\\x00", 1e-3, 2j, "\\u00fc\\U0001fae8", None, True]
    except* ValueError as error:
        raise SystemExit from error
    with open("page.html.j2") as one, open(name) as two:
        return lambda *, x: (yield_ := x)
'''


def digest_of(tmp_path, text: str) -> str:
    file = tmp_path / f"module_{abs(hash(text))}.py"
    file.write_text(text)
    return read_source(file).digest


def test_the_digest_is_the_same_under_every_python_version(tmp_path):
    assert digest_of(tmp_path, SNIPPET) == "881727e778378efc"


def test_newer_versions_empty_fields_and_other_cuts_of_a_text_change_nothing():
    tree = ast.parse('def f(x):\n    return f"{x} metres, {x}"\n')
    before = source_files._digest(tree.body)
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef) and isinstance(function.body[0], ast.Return)
    text = function.body[0].value
    assert isinstance(text, ast.JoinedStr)
    first, middle, last = text.values
    assert isinstance(middle, ast.Constant)
    text.values = [first, ast.Constant(" met"), ast.Constant("res, "), last, ast.Constant("")]
    function.type_params = []  # since Python 3.12
    function._fields = (*ast.FunctionDef._fields, "type_params")  # type: ignore[misc]
    assert source_files._digest(tree.body) == before
    middle.value = " miles, "
    text.values = [first, middle, last]
    assert source_files._digest(tree.body) != before


@pytest.mark.parametrize(
    "same",
    [
        SNIPPET.replace("About this module", "On this module"),
        SNIPPET.replace('    """A configuration."""\n', ""),
        SNIPPET.replace("remark", "comment"),
        SNIPPET.replace("Says something", "Says nothing"),
        SNIPPET.replace("default=2", "default=8"),
        SNIPPET.replace("steps: int = 3", "steps:  int=3  # optimizer steps"),
    ],
)
def test_remarks_layout_and_knobs_do_not_count(tmp_path, same):
    assert same != SNIPPET and digest_of(tmp_path, same) == digest_of(tmp_path, SNIPPET)


@pytest.mark.parametrize(
    "other",
    [
        SNIPPET.replace("steps: int = 3", "steps: int = 4"),
        SNIPPET.replace('"how"', '"why"').replace("default=2", "default=8"),
        SNIPPET.replace("None, True", "None, 1"),
        SNIPPET.replace("c=...", "c=None"),
        SNIPPET.replace(":.2f", ":.3f"),
        SNIPPET.replace("x00", "x01"),
        SNIPPET.replace("> -1", "> 1"),
        SNIPPET.replace("a, /, b", "a, b"),
        SNIPPET.replace("one, open", "one , open").replace("as two", "as one"),
    ],
)
def test_what_is_done_counts(tmp_path, other):
    assert other != SNIPPET and digest_of(tmp_path, other) != digest_of(tmp_path, SNIPPET)


def test_imports_and_names_of_files_are_found_wherever_they_stand(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(SNIPPET)
    source = read_source(file)
    assert {"dataclasses", "dataclasses.field", "numpy", "os.path"} <= set(source.imports)
    assert source.names == ("page.html.j2",)


PARTS = '''
from ops.here import work as verb, other
from ops.there import unused
LIMIT = 3

@declared(LIMIT)
def body(x):
    """What the catalogue shows."""
    if x:
        from ops.inside import choose
        verb(choose(x), helper())
    step = other(x)
    return shown(x)

def helper(): return LIMIT
def shown(x): return unused(x)

class Session:
    def prepare(self): return other
'''


def test_a_part_of_a_file_is_read_with_what_it_uses(tmp_path):
    file = tmp_path / "asset.py"
    file.write_text(PARTS)
    body, whole = read_part(file, "body", body=True), read_part(file, "body")
    assert body.names == ("helper",) and whole.names == ("LIMIT", "helper", "shown")
    assert set(body.imports) == {
        *("ops.here", "ops.here.work", "ops.here.other", "ops.inside", "ops.inside.choose")
    }
    assert read_part(file, "body.step").imports == ("ops.here", "ops.here.other")
    assert read_part(file, "Session.prepare").imports == ("ops.here", "ops.here.other")
    assert read_part(file, "LIMIT").names == ()
    file.write_text(PARTS.replace("shown(x)\n", "shown(x, 1)\n").replace("@declared", "@other"))
    assert read_part(file, "body", body=True) == body and read_part(file, "body") != whole
    with pytest.raises(LookupError, match="no part 'gone'"):
        read_part(file, "gone")


def test_what_was_read_is_kept_for_the_next_process_and_read_anew_when_a_file_changes(
    tmp_path, monkeypatch
):
    def next_process() -> None:
        for function in (source_files._read, source_files._cached):
            function.cache_clear()

    monkeypatch.setattr(source_files, "_ROOT", tmp_path)
    monkeypatch.setattr(source_files, "_CACHE", tmp_path / "cache" / "sources.json")
    next_process()
    file = tmp_path / "module.py"
    file.write_text("x = 1")
    first = read_source(file)
    store_sources()
    next_process()
    with monkeypatch.context() as patch:
        patch.setattr(source_files.ast, "parse", None)  # the file is not parsed again
        assert read_source(file) == first
    file.write_text("x = 23")
    assert read_source(file) != first
    for damaged in ("", "{", "[]", '{"version": 2, "files": 3}', json.dumps({"version": 1})):
        (tmp_path / "cache" / "sources.json").write_text(damaged)
        next_process()
        file.write_text("x = 1")
        assert read_source(file) == first
    next_process()
    monkeypatch.setattr(source_files, "_CACHE", file / "below a file" / "sources.json")
    assert read_source(file) == first
    store_sources()
    next_process()
