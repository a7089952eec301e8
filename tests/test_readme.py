"""What the README tells a person to type exists, and so does every place it names."""

import re
from pathlib import Path

import pytest

from pipelines.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^make (\w+)", README, flags=re.M))
    makefile = (ROOT / "Makefile").read_text()
    assert {"run", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"`latentvla (\w+)", README))))
def test_every_verb_of_the_readme_exists(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0 and verb in capsys.readouterr().out


def test_every_place_of_the_tree_exists():
    tree = re.search(r"```\n(pipelines/.*?)```", README, flags=re.S)
    assert tree is not None
    above = ""
    for line in tree.group(1).splitlines():
        place = line.split()[0]
        above = place if not line.startswith(" ") else above
        assert (ROOT / place if not line.startswith(" ") else ROOT / above / place).exists(), line


def test_every_file_the_readme_links_to_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
