"""docs/tour.md as a program: its blocks run in order in a fresh folder, as a reader runs them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOUR = (ROOT / "docs" / "tour.md").read_text()
LANGUAGES = ("python", "console", "text", "console parse-only")
# programs whose calls tests/docs/test_readme.py holds against the programs themselves
PARSED = ("latentvla ", "make ", "dagster ", "python -m benchmarks.", "export ", "source ")


@dataclass(frozen=True)
class Block:
    """A fenced block of the page."""

    line: int  # of its fence
    language: str  # the whole info string
    text: str
    before: str  # the paragraph above it


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page, in order."""
    return [
        Block(
            page[: match.start()].count("\n") + 1,
            match[1],
            match[2],
            page[: match.start()].rstrip().rpartition("\n\n")[2],
        )
        for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", page, re.S | re.M)
    ]


BLOCKS = blocks(TOUR)


def test_every_block_says_whether_it_is_run_and_the_page_says_so_too():
    assert {block.language for block in BLOCKS} == set(LANGUAGES)
    for block in BLOCKS:
        assert ("*Parsed only:*" in block.before) == (block.language == "console parse-only"), (
            f"docs/tour.md:{block.line}"
        )


def test_the_blocks_that_are_not_run_hold_only_commands_that_another_test_parses():
    for block in BLOCKS:
        if block.language == "console parse-only":
            assert [line for line in block.text.splitlines() if not line.startswith(PARSED)] == []


def test_every_program_block_of_the_page_is_run():
    ran = [block for block in BLOCKS if block.language in ("python", "console")]
    assert len([block for block in ran if block.language == "python"]) >= 4
    verbs = set(re.findall(r"^latentvla (\w+)", "\n".join(block.text for block in ran), re.M))
    assert {"run", "status", "logs", "show", "sql", "lineage", "predict", "score"} <= verbs


@pytest.mark.slow
def test_the_tour_runs_from_its_first_block_to_its_last(tmp_path, monkeypatch):
    for name in ("dagster.yaml", "workspace.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names: dict[str, object] = {}
    output = ""
    for block in BLOCKS:
        where = f"docs/tour.md:{block.line}"
        if block.language == "python":
            # the line number is that of the page, so that a traceback points there
            exec(compile("\n" * block.line + block.text, "docs/tour.md", "exec"), names)
        elif block.language == "console":
            output = "".join(
                _run(line, where, monkeypatch) for line in block.text.splitlines() if line
            )
        elif block.language == "text":
            for line in block.text.splitlines():
                assert line == "..." or _without_numbers(line) in _without_numbers(output), where


def _run(line: str, where: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What one command printed; a variable that it exports holds for the commands after it."""
    if exported := re.fullmatch(r"export (\w+)=(\S+)", line):
        monkeypatch.setenv(exported[1], exported[2])
        return ""
    result = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, timeout=600
    )
    assert result.returncode == 0, (
        f"{where}: {line}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    )
    return result.stdout


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "0", text)
