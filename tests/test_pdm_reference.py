"""Agreement with the devkit on reference cases that lie beside the repository, where they are there."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.pdm_reference import Tally, compare, main
from benchmarks.reference_cases import read_cases

CASES = Path(__file__).parents[2] / "shared" / "pdm_reference" / "cases.npz"


@pytest.mark.skipif(not CASES.exists(), reason=f"the reference cases are not here: {CASES}")
def test_nothing_differs_from_the_devkit_in_either_version() -> None:
    tally = compare(read_cases(CASES))
    assert {version for version, _ in tally.rows} == {"v1", "v2"}
    assert {key: row for key, row in tally.rows.items() if row[1]} == {}


def test_a_difference_is_counted_and_the_largest_one_kept() -> None:
    tally = Tally()
    tally.add("v1", "score", [1.0, np.inf, np.nan], [1.0, np.inf, np.nan])
    assert tally.differing == 0
    tally.add("v1", "score", [1.0, 2.0], [1.0, 2.5])
    tally.add("v1", "score", [1.0], [np.nan])
    tally.add("v1", "score", [1.0], [1.0, 2.0])
    assert tally.differing == 3 and tally.rows["v1", "score"] == [4, 3, np.inf]


def test_opposite_ends_of_a_turn_are_the_same_heading() -> None:
    tally = Tally()
    tally.add("v1", "poses", [[0.0, 0.0, np.pi]], [[0.0, 0.0, -np.pi]], yaw=True)
    assert tally.differing == 0


def test_a_file_that_is_not_there_or_of_another_layout_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("n_scenes")
    for file, message in ((Path("nowhere.npz"), "no such file"), (tmp_path / "other.npz", "n_scenes, case_scene, case_dt"),
                          (tmp_path / "text.npz", "no .npz")):
        assert main([str(file)]) == 2
        assert message in capsys.readouterr().out
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out
