"""What the README and the docs tell a person to type is understood by the programs named, and every
place exists.

Commands are parsed, not run: test_tour.py runs those of docs/tour.md, test_cli.py and
test_whole_pipeline.py test what they do.
"""

import re
import runpy
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from assets.chain.asset_specs import ASSET_SPECS
from pipelines.cli import build_parser, main
from pipelines.dagster_cli import defaults_for
from pipelines.presets import PRESETS
from storage.asset_names import ASSET_NAMES
from storage.sources import SOURCES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = {  # path below the root -> text
    str(file.relative_to(ROOT)): file.read_text()
    for file in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
# what a person puts for a word in capitals
WORDS = {"N": "3", "V": "5.0", "S": "smoke", "ASSET": "student"}
# folders of the repository whose files the pages name
FOLDERS = "latentvla|pipelines|assets|ops|models|storage|benchmarks|tests|docs"
MADE_UP = {"--source": ("my_cars", "NAME"), "--scale": (), "--until": ()}


def commands(program: str) -> list[tuple[str, str]]:
    """(page, command line) of every call of a program in a code block or in `code`; comments and
    `...` left out.
    """
    found = []
    for page, text in PAGES.items():
        blocks = "\n".join(re.findall(r"```[^\n]*\n(.*?)```", text, flags=re.S))
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


def test_every_make_target_of_the_readme_and_of_the_pages_exists():
    makefile = (ROOT / "Makefile").read_text()
    assert {"run", "test"} <= set(re.findall(r"^make (\w+)", README, flags=re.M))
    for page, text in PAGES.items():
        for target in re.findall(r"(?:^|`)make (\w+)", text, flags=re.M):
            assert re.search(rf"^{target}:", makefile, flags=re.M), (page, target)


@pytest.mark.parametrize(("page", "line"), LATENTVLA, ids=lambda text: text[:60])
def test_every_latentvla_line_of_readme_and_docs_is_understood(page, line, capsys):
    for words in spelled_out(line)[:8]:
        if len(words) == 1:
            continue  # the program's name alone
        try:
            options = build_parser().parse_args(words[1:])
        except SystemExit:
            pytest.fail(f"{page}: {shlex.join(words)}: {capsys.readouterr().err}")
        assert options.command_name == words[1]
        for name, known in (("scale", PRESETS), ("source", SOURCES), ("until", ASSET_NAMES)):
            value = getattr(options, name, None)
            assert value is None or value in known or value in MADE_UP[f"--{name}"], (
                f"{page}: {line}"
            )


def test_the_lines_that_are_understood_are_the_ones_the_readme_is_about():
    verbs = {words.split()[1] for page, words in LATENTVLA if page == "README.md" and " " in words}
    offered = set(re.findall(r"^    (\w+)(?: |$)", build_parser().format_help(), flags=re.M))
    assert offered == verbs
    with pytest.raises(SystemExit):
        build_parser().parse_args(["run", "--no-such-option"])


def test_the_page_of_the_command_line_has_every_verb_scale_and_variable():
    page = PAGES["docs/command_line.md"]
    offered = re.findall(r"^    (\w+)(?: |$)", build_parser().format_help(), flags=re.M)
    assert offered and [verb for verb in offered if f"| `latentvla {verb}" not in page] == []
    assert [scale for scale in PRESETS if f"| `{scale}` |" not in page] == []
    read = set()
    for file in (ROOT / "pipelines").rglob("*.py"):
        read |= set(re.findall(r'"((?:LATENTVLA|NUPLAN)_[A-Z0-9_]+)"', file.read_text()))
    assert read and [name for name in sorted(read) if name not in page] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_a_page_names_exists(page):
    verbs = sorted({words.split()[1] for _, words in LATENTVLA if " " in words})
    ours = {"--help"} | {
        option for verb in verbs for option in re.findall(r"--[a-z-]+", _help_of(verb))
    }
    assert _options(README) <= ours | {"--select", "--assets"}
    others = {
        option
        for file in (ROOT / "benchmarks").glob("*.py")
        for option in re.findall(r'"(--[a-z-]+)"', file.read_text())
    } | {"--select", "--assets", "--no-deps"}  # Dagster's and pip's
    named = _options(PAGES[page])
    assert named <= ours | others, named - ours - others


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


@pytest.mark.parametrize(
    "verb", sorted(set(re.findall(r"`latentvla (\w+)", "\n".join(PAGES.values()))))
)
def test_every_verb_of_the_pages_exists(verb):
    assert verb in _help_of(verb)


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_every_place_of_the_tree_exists(page):
    tree = re.search(r"^```\n(\w+/ .*?)^```$", PAGES[page], flags=re.S | re.M)
    assert tree is not None
    above = ""
    for line in tree[1].splitlines():
        places = [line.split()[0], *re.findall(r"(?<=  )\w+/(?= |$)", line.strip())]
        above = places[0] if not line.startswith(" ") else above
        for place in places:
            path = ROOT / place if not line.startswith(" ") else ROOT / above / place
            assert path.exists(), line


def test_every_package_and_every_folder_of_the_code_is_in_the_tree_of_the_architecture():
    page = PAGES["docs/architecture.md"]
    packages = {
        file.parent.name
        for layer in ("ops", "models", "storage", "assets", "pipelines")
        for file in (ROOT / layer).glob("*/__init__.py")
    }
    assert {"pdm", "sources", "chain"} <= packages
    assert [name for name in sorted(packages) if f"\n  {name}/" not in page] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_to_exists_with_the_heading_that_it_names(page):
    folder = (ROOT / page).parent
    text = re.sub(r"```.*?```|`[^`\n]*`", "", PAGES[page], flags=re.S)
    for target, heading in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", text):
        if target.startswith("http"):
            continue
        file = folder / target if target else ROOT / page
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.M)
            assert heading[1:] in {_anchor(title) for title in headings}, f"{target}{heading}"


@pytest.mark.parametrize("page", sorted(PAGES.keys() - {"docs/log.md"}))
def test_every_file_that_a_page_names_exists(page):
    for named in re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", PAGES[page]):
        assert (ROOT / named).exists(), named


def test_the_landing_page_links_to_every_page_and_each_picture_has_its_use():
    pages = {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")}
    linked = set(re.findall(r"\]\(([\w]+\.md)", PAGES["docs/README.md"]))
    assert pages - {"README.md"} == linked
    everything = "\n".join(PAGES.values())
    pictures = [*(ROOT / "docs/images").glob("*.png"), *(ROOT / "docs/images").glob("*.svg")]
    assert [file.name for file in pictures if f"images/{file.name}" not in everything] == []


def test_the_picture_of_the_architecture_is_drawn_from_its_source_and_names_what_there_is():
    folder = ROOT / "docs/images"
    source = runpy.run_path(str(folder / "architecture.py"))
    assert (folder / "architecture.svg").read_text() == source["architecture"]()
    assets = tuple(name for group in source["GROUPS"] for name, *_ in group[2])
    assert assets == ASSET_NAMES
    layers = [name for name, *_ in (*source["LAYERS"], *source["LOWEST"])]
    assert all((ROOT / name).is_dir() for name in layers)
    packages = {file.parent.name for file in (ROOT / "ops").glob("*/__init__.py")}
    drawn = {name for names, _ in source["OPS"] for name in names}
    assert drawn == packages | {"pool"}


def test_the_table_of_the_assets_has_their_inputs_and_their_code():
    for name, spec in ASSET_SPECS.items():
        row = re.search(rf"^\| `{name}` \|(.*)\|(.*)\|.*\|$", PAGES["docs/architecture.md"], re.M)
        assert row is not None, name
        assert tuple(re.findall(r"`(\w+)`", row[1])) == spec.deps
        assert spec.code[0] in row[2], name


def test_no_page_uses_the_former_name_of_the_synthetic_scale():
    for page, text in PAGES.items():
        if page == "docs/log.md":
            continue
        lines = [line for line in text.splitlines() if re.search(r"\bembedded\b", line)]
        assert not lines or (page == "CHANGELOG.md" and len(lines) <= 2), (page, lines)


def _anchor(title: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def _help_of(verb: str) -> str:
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    return text.getvalue()
