"""What the README and the docs tell a person to type is understood by the programs named, and every
place exists.

Commands are parsed, not run: what they do stands in test_cli.py, test_whole_pipeline.py and
test_real_drive.py.
"""

import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from pipelines.cli import _parser, main
from pipelines.dagster_cli import defaults_for
from pipelines.presets import PRESETS
from storage.lake import ASSET_NAMES
from storage.sources import SOURCES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {
    file.name: file.read_text()
    for file in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
}
# what a person puts for a word in capitals
WORDS = {"N": "3", "V": "5.0", "S": "smoke", "LINK": "student"}
MADE_UP = {"--source": ("my_cars", "NAME"), "--scale": (), "--until": ()}


def commands(program: str) -> list[tuple[str, str]]:
    """(page, command line) of every call of a program in a code block or in `code`; comments and
    `...` left out.
    """
    found = []
    for page, text in PAGES.items():
        blocks = "\n".join(re.findall(r"```\w*\n(.*?)```", text, flags=re.S))
        lines = [
            *blocks.splitlines(),
            *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S)),
        ]
        for line in lines:
            words = re.match(
                rf"(?:[A-Z_]+=\S+ )*({re.escape(program)}(?: .*)?)$", line.split(" # ")[0].strip()
            )
            if words:
                found.append((page, words.group(1).removesuffix(" ...")))
    return sorted(set(found))


def spelled_out(line: str) -> list[list[str]]:
    """The command with and without each part in brackets, a made-up value for each word in
    capitals.
    """
    parts = re.split(r"\[([^\]]*)\]", line)
    choices = [[part] if place % 2 == 0 else ["", part] for place, part in enumerate(parts)]
    return [
        [WORDS.get(word, word) for word in shlex.split("".join(chosen))]
        for chosen in product(*choices)
    ]


LATENTVLA = commands("latentvla")


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^make (\w+)", README, flags=re.M))
    makefile = (ROOT / "Makefile").read_text()
    assert {"run", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


@pytest.mark.parametrize(("page", "line"), LATENTVLA, ids=lambda text: text[:60])
def test_every_latentvla_line_of_readme_and_docs_is_understood(page, line, capsys):
    for words in spelled_out(line)[:8]:
        if len(words) == 1:
            continue  # the program's name alone
        try:
            options = _parser().parse_args(words[1:])
        except SystemExit:
            pytest.fail(f"{page}: {shlex.join(words)}: {capsys.readouterr().err}")
        assert options.verb.__name__ == words[1]
        for name, known in (("scale", PRESETS), ("source", SOURCES), ("until", ASSET_NAMES)):
            value = getattr(options, name, None)
            assert value is None or value in known or value in MADE_UP[f"--{name}"], (
                f"{page}: {line}"
            )


def test_the_lines_that_are_understood_are_the_ones_the_readme_is_about():
    verbs = {words.split()[1] for page, words in LATENTVLA if page == "README.md" and " " in words}
    offered = set(re.findall(r"^    (\w+) ", _parser().format_help(), flags=re.M))
    assert offered == verbs | {"logs"} and "`latentvla status`, `logs`" in README
    with pytest.raises(SystemExit):
        _parser().parse_args(["run", "--no-such-option"])


def test_every_option_that_the_readme_names_exists():
    verbs = sorted({words.split()[1] for _, words in LATENTVLA if " " in words})
    known = {option for verb in verbs for option in re.findall(r"--[a-z-]+", _help_of(verb))} | {
        "--select",
        "--assets",
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README))
    assert named <= known, named - known


@pytest.mark.parametrize(
    "line", sorted({words for _, words in commands("dagster")} - {"dagster", "dagster dev"})
)
def test_every_dagster_line_is_one_of_dagsters_own_and_finds_the_definitions(line):
    from click.testing import CliRunner
    from dagster._cli import cli

    words = line.split()[1:]
    found = CliRunner().invoke(cli, [*words[:2], "--help"])
    assert found.exit_code == 0, line
    assert all(word in found.output for word in words if word.startswith("--")), line
    if words[0] == "asset":
        assert defaults_for(words, {})["asset"][words[1]]


@pytest.mark.parametrize(
    "module",
    sorted(
        {words.split()[2] for _, words in commands("python") if "benchmarks." in words}
        | {"benchmarks.world", "benchmarks.pdm_pictures"}
    ),
)
def test_every_benchmark_that_is_named_exists_and_says_how_it_is_called(module):
    found = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0 and "usage" in found.stdout and module in found.stdout, (
        found.stderr
    )


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"`latentvla (\w+)", README))))
def test_every_verb_of_the_readme_exists(verb):
    assert verb in _help_of(verb)


def test_every_place_of_the_tree_exists():
    tree = re.search(r"```\n(pipelines/.*?)```", README, flags=re.S)
    assert tree is not None
    above = ""
    for line in tree.group(1).splitlines():
        place = line.split()[0]
        above = place if not line.startswith(" ") else above
        assert (ROOT / place if not line.startswith(" ") else ROOT / above / place).exists(), line


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_to_exists(page):
    folder = ROOT if page in ("README.md", "CHANGELOG.md") else ROOT / "docs"
    for target in re.findall(
        r"\]\(([^)#]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", PAGES[page], flags=re.S)
    ):
        assert target.startswith("http") or (folder / target).exists(), target


def _help_of(verb: str) -> str:
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    return text.getvalue()
