"""`make lock`: pip's report becomes requirements that pip checks by their hashes."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "lock.py"


def package(name: str, version: str, download: dict) -> dict:
    """A package as `pip install --report` lists it."""
    return {"metadata": {"name": name, "version": version}, "download_info": download}


def file_of(digest: str) -> dict:
    return {"url": "https://host/x.whl", "archive_info": {"hashes": {"sha256": digest}}}


def lock(folder: Path, *packages: dict) -> subprocess.CompletedProcess[str]:
    report = json.dumps({"version": "1", "install": list(packages)})
    words = [sys.executable, str(SCRIPT), str(folder / "here")]
    return subprocess.run(words, input=report, capture_output=True, text=True, check=False)


def lines(file: Path) -> list[str]:
    """The requirements in a lock; none if there is no such file."""
    return file.read_text().splitlines()[1:] if file.exists() else []


OURS = package("latentvla", "0.1.0", {"url": "file:///x", "dir_info": {"editable": True}})
IDNA, HOOKS = package("Idna", "3", file_of("a")), package("torch-hooks", "1", file_of("h"))
CPU = package("torch", "2.13.0+cpu", file_of("b" * 64))
PUBLIC = (
    package("torch", "2.13.0", file_of("c")),
    package("nvidia-cublas", "13", file_of("d")),
    package("triton", "3", file_of("e")),
)


def test_every_package_but_this_project_is_pinned_to_the_hash_of_its_file(tmp_path: Path) -> None:
    process = lock(tmp_path, CPU, OURS, IDNA, HOOKS)
    assert process.returncode == 0, process.stderr
    others = ["Idna==3 --hash=sha256:a", "torch-hooks==1 --hash=sha256:h"]
    assert lines(tmp_path / "here.txt") == others
    assert lines(tmp_path / "here-cpu.txt") == [f"torch==2.13.0+cpu --hash=sha256:{'b' * 64}"]
    assert not lines(tmp_path / "here-cuda.txt")

    assert lock(tmp_path, *PUBLIC, IDNA, HOOKS).returncode == 0
    assert lines(tmp_path / "here.txt") == others and lines(tmp_path / "here-cpu.txt")
    assert [line.split()[0] for line in lines(tmp_path / "here-cuda.txt")] == [
        "nvidia-cublas==13",
        "torch==2.13.0",
        "triton==3",
    ]


def test_a_build_of_another_release_of_torch_is_dropped(tmp_path: Path) -> None:
    assert lock(tmp_path, *PUBLIC).returncode == 0 and lines(tmp_path / "here-cuda.txt")
    assert lock(tmp_path, package("torch", "2.14.0+cpu", file_of("f"))).returncode == 0
    assert lines(tmp_path / "here-cpu.txt") and not lines(tmp_path / "here-cuda.txt")


def test_a_package_without_a_hash_gives_no_lock(tmp_path: Path) -> None:
    process = lock(tmp_path, package("idna", "3", {"url": "https://x.whl", "archive_info": {}}))
    assert process.returncode != 0 and "no SHA-256 of idna" in process.stderr
    assert not list(tmp_path.iterdir())


def test_the_locks_that_come_with_the_project_are_those_of_the_tested_versions() -> None:
    """A mistake in one of the two would install other packages than were tested."""
    pinned = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    for file in (ROOT / "locks").glob("*.txt"):
        for line in lines(file):
            requirement, *hashes = line.split()
            name, version = requirement.lower().replace("_", "-").split("==")
            assert hashes and all(len(item) == len("--hash=sha256:") + 64 for item in hashes)
            assert pinned.get(name, version) == version.partition("+")[0], line
    assert (ROOT / "locks" / "cp311-linux-x86_64.txt").exists()
