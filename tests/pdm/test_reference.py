"""Agreement with the devkit on a file of reference cases, which is not part of the repository."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import pdm_reference
from benchmarks.pdm_reference import Tally, compare, main
from benchmarks.reference_cases import read_cases

CASES = Path(__file__).parents[3] / "shared" / "pdm_reference" / "cases.npz"


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


def test_a_file_that_is_not_there_or_of_another_layout_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("n_scenes")
    for file, message in (
        (Path("nowhere.npz"), "no such file"),
        (tmp_path / "other.npz", "n_scenes, case_scene, case_dt"),
        (tmp_path / "text.npz", "no .npz"),
    ):
        assert main([str(file)]) == 2
        assert message in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2 and "CASES.npz" in capsys.readouterr().err


def _file(
    folder: Path, scene: int, change: dict[str, np.ndarray] | None = None, without: str = ""
) -> str:
    """A file of reference cases with one scene and its first case."""
    data = read_cases(CASES)
    case = int(np.flatnonzero(data["case_scene"] == scene)[0])
    own = {
        "s00" + name[3:]: value for name, value in data.items() if name.startswith(f"s{scene:02d}/")
    }
    own |= {
        "c000" + name[4:]: value for name, value in data.items() if name.startswith(f"c{case:03d}/")
    }
    own |= {
        "n_scenes": np.array(1),
        "case_scene": np.array([0]),
        "case_dt": data["case_dt"][[case]],
    }
    own.pop("s00/v2/ec_pairs", None)
    own |= change or {}
    own.pop(without, None)
    np.savez(folder / "own.npz", **own)
    return str(folder / "own.npz")


@pytest.mark.skipif(not CASES.exists(), reason=f"the reference cases are not here: {CASES}")
@pytest.mark.parametrize(
    ("change", "without", "code", "message"),
    [
        ({}, "", 0, "nothing differs"),
        ({}, "c000/v2/sub", 2, "lacks the array 'c000/v2/sub'"),
        ({"c000/v1/multi": np.zeros((2, 2))}, "", 0, "nothing differs"),
        ({"c000/v1/sub": np.zeros(7)}, "", 1, "comparisons differ"),
        ({"c000/poses": np.full((8, 3), np.nan)}, "", 1, "cases that cannot be scored"),
        ({"s00/centerline": np.zeros((1, 3))}, "", 1, "scenes that cannot be scored"),
        (
            {
                "agg7/endpoints": np.zeros((2, 2)),
                "agg7/starts_now": np.zeros((1, 2)),
                "agg7/starts_prev": np.zeros((1, 2)),
                "agg7/scores": np.ones(4),
                "agg7/weights_now": np.ones(1),
                "agg7/weights_prev": np.ones(1),
                "agg7/combined_stage1_stage2": np.zeros(3),
            },
            "",
            1,
            "two-stage scores",
        ),
    ],
)
def test_any_file_of_the_layout_is_compared_and_its_faults_are_reported(
    change: dict,
    without: str,
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pdm_reference, "print_speed", lambda data: None)
    assert main([_file(tmp_path, 17, change, without)]) == code
    assert message in capsys.readouterr().out


@pytest.mark.skipif(not CASES.exists(), reason=f"the reference cases are not here: {CASES}")
def test_what_stands_where_an_agent_was_not_seen_does_not_matter(tmp_path: Path) -> None:
    agents = read_cases(CASES)["s17/agents_key"].copy()
    assert (agents[..., 0] == 0).any()
    agents[agents[..., 0] == 0, 1:] = np.nan
    assert compare(read_cases(Path(_file(tmp_path, 17, {"s00/agents_key": agents})))).differing == 0
