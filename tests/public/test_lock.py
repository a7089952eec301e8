"""`make lock`: pip's report becomes requirements that pip checks by their hashes."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / ".ci" / "lock.py"


def package(name: str, version: str, download: dict) -> dict:
    """A package as `pip install --report` lists it."""
    return {"metadata": {"name": name, "version": version}, "download_info": download}


def file_of(digest: str) -> dict:
    return {"url": "https://host/x.whl", "archive_info": {"hashes": {"sha256": digest}}}


def lock(*packages: dict) -> subprocess.CompletedProcess[str]:
    report = json.dumps({"version": "1", "install": list(packages)})
    words = [sys.executable, str(SCRIPT)]
    return subprocess.run(words, input=report, capture_output=True, text=True, check=False)


def test_every_package_but_this_project_is_pinned_to_the_hash_of_its_file() -> None:
    ours = package("latentvla", "0.1.0", {"url": "file:///x", "dir_info": {"editable": True}})
    process = lock(
        package("torch", "2.13.0+cpu", file_of("b" * 64)), ours, package("Idna", "3", file_of("a"))
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[1:] == [
        "Idna==3 --hash=sha256:a",
        f"torch==2.13.0+cpu --hash=sha256:{'b' * 64}",
    ]


def test_a_package_without_a_hash_gives_no_lock() -> None:
    process = lock(package("idna", "3", {"url": "https://host/x.whl", "archive_info": {}}))
    assert process.returncode != 0 and "no SHA-256 of idna" in process.stderr
    assert "--hash" not in process.stdout
