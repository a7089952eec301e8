"""Rules are configuration; NaN breaks them; shares are per log; what pages show is escaped."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ops.quality.config import QualityConfig
from ops.quality.rules import active_rules, rules_version
from storage.errors import ConfigError
from storage.expectations import RULES, validate, validate_agents, validate_trajectories
from storage.expectations.columns import light_columns, map_columns, plan_columns, score_columns
from storage.expectations.data_docs import escaped
from storage.expectations.rules import SEVERITIES, Rule, rules_of
from storage.metrics_table import MEASURES, PLANS, SCORES
from storage.trajectory_table import AGENTS, LIGHTS, MAP
from tests.storage.test_expectations import ROWS, straight_drive

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"'><svg/onload=alert(3)>",
    "${PARAMETER} $x {{7*7}} {% raw %}",
    "</td></table><a href='javascript:alert(4)'>",
)
AGENT = {
    "log_id": "drive",
    "frame_index": 0,
    "track_token": "t",
    "category": 0,
    **dict.fromkeys(("x_m", "y_m", "z_m", "yaw_rad", "vx_mps", "vy_mps"), 0.0),
    "length_m": 4.0,
    "width_m": 2.0,
    "height_m": 1.5,
}
LANE = {
    "log_id": "drive",
    "location": "road",
    "layer": 0,
    "token": "lane",
    "polygon_xy": [0.0, 0, 9, 0, 9, 3],
    "baseline_xyyaw": [0.0, 1, 0, 9, 1, 0],
    "speed_limit_mps": None,
    "roadblock_id": "",
    "predecessors": [],
    "successors": [],
    "left_neighbor": "",
    "right_neighbor": "",
}


def agents(*changes: dict) -> pa.Table:
    rows = [AGENT | {"track_token": str(number)} | item for number, item in enumerate(changes)]
    return pa.Table.from_pylist(rows, schema=AGENTS)


def broken(validation) -> set[str]:
    return {result.rule.name for result in validation.results if not result.passed}


def rules_file(tmp_path, text: str) -> QualityConfig:
    (tmp_path / "rules.toml").write_text(text)
    return QualityConfig(str(tmp_path / "rules.toml"))


def test_every_rule_has_a_name_of_its_own_within_its_asset_and_a_hint():
    names = [(rule.asset, rule.name) for rule in RULES]
    assert len(set(names)) == len(names) > 50
    assert all(rule.hint and "{" not in rule.text for rule in RULES)


def test_the_page_on_quality_has_every_rule_as_it_is():
    page = (Path(__file__).parents[2] / "docs/quality.md").read_text()
    rows = [f"| `{rule.asset}.{rule.name}` | {rule.severity} | {rule.text} |" for rule in RULES]
    assert [row for row in rows if row not in page] == []
    assert page.count("\n| `") - len(rows) == len(SEVERITIES)


def test_a_file_of_rules_changes_limits_and_severities_and_the_version(tmp_path):
    config = rules_file(
        tmp_path, "[trajectories.speed_in_range]\nhigh = 7.5\nseverity = 'warn'\nallowed = 0.5\n"
    )
    rules = active_rules(config)
    speed = next(rule for rule in rules if rule.name == "speed_in_range")
    assert (speed.high, speed.severity, speed.allowed) == (7.5, "warn", 0.5)
    assert "7.5" in speed.text
    for asset in ("frames", "trajectories"):
        changed = rules_version(rules, asset) != rules_version(RULES, asset)
        assert changed == (asset == "trajectories")
    chosen = rules_of(rules, table="trajectories")
    assert broken(validate_trajectories(straight_drive(), chosen)) == {"speed_in_range"}  # 8 m/s
    off = rules_file(tmp_path, "[trajectories.speed_in_range]\nhigh = 7.5\nseverity = 'off'\n")
    chosen = rules_of(active_rules(off), table="trajectories")
    names = [item.rule.name for item in validate_trajectories(straight_drive(), chosen).results]
    assert "speed_in_range" not in names and "jerk_in_range" in names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[trajectoris.speed_in_range]\nhigh = 1", "did you mean 'trajectories'"),
        ("[trajectories.speed_in_rang]\nhigh = 1", "did you mean 'speed_in_range'"),
        ("[trajectories.speed_in_range]\nhihg = 1", "did you mean 'high'"),
        ("[trajectories.speed_in_range]\nhigh = 'much'", "'high' is no number"),
        ("[trajectories.speed_in_range]\nhigh = nan", "'high' is no number"),
        ("[trajectories.speed_in_range]\nhigh = true", "'high' is no number"),
        ("[trajectories.speed_in_range]\nlow = 80", "no value can keep this rule"),
        ("[trajectories.speed_in_range]\nallowed = 1.5", "no value can keep this rule"),
        ("[trajectories.speed_in_range]\nseverity = 'blok'", "did you mean 'block'"),
        ("[trajectories.key_is_unique]\nhigh = 3", "no key of trajectories.key_is_unique 'high'"),
        ("[trajectories]\nspeed_in_range = 3", "'trajectories.speed_in_range' is no table"),
        ("trajectories = 3", "'trajectories' is no table"),
        ("[trajectories", "cannot be read"),
    ],
)
def test_a_mistake_in_a_file_of_rules_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        active_rules(rules_file(tmp_path, text))


def test_a_file_of_rules_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        active_rules(QualityConfig(str(tmp_path / "none.toml")))


def test_an_agent_with_a_number_that_is_none_blocks_and_is_named():
    bad = [
        {column: value}
        for column in ("length_m", "x_m", "yaw_rad", "vx_mps", "height_m")
        for value in (float("nan"), float("inf"), float("-inf"))
    ]
    rows = [item | {"frame_index": 3 + number} for number, item in enumerate(bad)]
    validation = validate_agents(agents({}, *rows))
    result = next(item for item in validation.results if item.rule.name == "agent_is_finite")
    assert not validation.passed and result.failed_logs == ("drive",)
    assert result.failed_keys == tuple(f"drive/{row['frame_index']}" for row in rows)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("column", ["yaw_rate_radps", "history_xyyaw", "future_xyyaw", "x_m"])
def test_a_number_of_a_trajectory_that_is_none_blocks_wherever_it_stands(column, value):
    table = straight_drive()
    cells = table[column].to_pylist()
    cells[4] = [*cells[4][:-1], value] if isinstance(cells[4], list) else value
    place = table.schema.get_field_index(column)
    bad = table.set_column(place, table.schema.field(column), pa.array(cells, table[column].type))
    result = next(
        item
        for item in validate_trajectories(bad).results
        if item.rule.name == "numbers_are_finite"
    )
    assert result.failed_keys == ("drive/4",) and result.rule.blocking


def test_nan_breaks_every_kind_of_rule():
    import pandas as pd

    kinds = {
        "both": {"low": 0.0, "high": 9.0},
        "low": {"low": 0.0},
        "high": {"high": 9.0},
        "values": {"values": (1, 2)},
    }
    rules = [Rule(name, "a", "t", "", "block", "x", **kind) for name, kind in kinds.items()]
    frame = pd.DataFrame({"log_id": ["a", "a", "b"], "x": [1.0, np.nan, 1.0]})
    for result in validate("t", frame, rules).results:
        assert result.failed_logs == ("a",) and result.observed == "nan", result.rule.name


def test_one_log_without_images_is_named_however_many_others_have_theirs():
    logs = [straight_drive(log_id=[f"log-{number}"] * ROWS) for number in range(12)]
    bad = straight_drive(log_id=["without"] * ROWS, has_image=[False] * ROWS)
    few = straight_drive(log_id=["few"] * ROWS, has_image=[False] * 2 + [True] * (ROWS - 2))
    results = validate_trajectories(pa.concat_tables([*logs, bad, few])).results
    images = next(item for item in results if item.rule.name == "rows_have_images")
    assert images.failed_logs == ("without",) and images.unexpected_count == ROWS


def test_agents_and_lights_of_frames_that_are_not_there_are_named():
    known = straight_drive()
    validation = validate_agents(agents({}, {"frame_index": 99}), known=known)
    assert broken(validation) == {"agent_frame_is_known"}
    row = {"log_id": "drive", "frame_index": 1, "lane_connector_id": "c", "is_red": True}
    lights = pa.Table.from_pylist(
        [row, row, row | {"frame_index": 77}, row | {"lane_connector_id": ""}], schema=LIGHTS
    )
    found = broken(
        validate("lights", light_columns(lights, known), rules_of(RULES, table="lights"))
    )
    assert found == {"light_key_is_unique", "light_frame_is_known", "light_has_a_connector"}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, None),
        ({"polygon_xy": [0.0, 0, 9, float("nan"), 9, 3]}, "map_polygon_is_sound"),
        ({"polygon_xy": [0.0, 0, 9, 0]}, "map_polygon_is_sound"),
        ({"baseline_xyyaw": [0.0, 1, float("inf"), 9, 1, 0]}, "map_baseline_is_sound"),
        ({"baseline_xyyaw": []}, "map_baseline_is_sound"),
        ({"baseline_xyyaw": [], "layer": 4}, None),  # a crosswalk has no centre line
        ({"speed_limit_mps": float("nan")}, "map_speed_limit_in_range"),
        ({"speed_limit_mps": -3.0}, "map_speed_limit_in_range"),
        ({"token": "other"}, "map_token_is_unique"),
    ],
)
def test_a_map_object_that_breaks_a_rule_is_named(change, rule):
    schema = pa.schema([pa.field("log_id", pa.string()), *MAP])
    table = pa.Table.from_pylist([LANE | {"token": "other"}, LANE | change], schema=schema)
    validation = validate("map", map_columns(table), rules_of(RULES, table="map"))
    assert broken(validation) == ({rule} if rule else set())


def scene(planner: str, frame: int, **changes) -> dict:
    row = {
        "log_id": "drive",
        "frame_index": frame,
        "split": "test",
        "planner": planner,
        "metric_version": "PDMS v1.1",
        "seed": None,
        "scored": True,
        "reason": "",
        **dict.fromkeys(MEASURES, 0.5),
        "speed_mps": 8.0,
        "command": 1,
        "tags": [],
    }
    return row | changes


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({}, set()),
        ({"progress_m": -2.0, "ade_m": 20.0}, set()),
        ({"pdms": 1.2}, {"scores_in_range"}),
        ({"nc": float("nan")}, {"scores_in_range"}),
        ({"ade_m": float("nan")}, {"errors_are_finite"}),
        ({"fde_m": -1.0}, {"errors_are_finite"}),
        ({"pdms": None}, {"scored_or_a_reason"}),
        ({"scored": False, "pdms": None, "epdms": None}, {"scored_or_a_reason"}),
        ({"scored": False, "pdms": None, "epdms": None, "reason": "no map"}, set()),
        ({"frame_index": 1}, {"score_key_is_unique", "every_planner_has_every_scene"}),
    ],
)
def test_a_score_that_breaks_a_rule_is_named(change, rules):
    rows = [scene("a", 1), scene("b", 1), scene("a", 2), scene("b", 2) | change]
    table = pa.Table.from_pylist(rows, schema=SCORES)
    validation = validate("scores", score_columns(table), rules_of(RULES, table="scores"))
    assert broken(validation) == rules


def test_a_plan_with_nan_is_named_with_its_planner():
    row = {"log_id": "drive", "frame_index": 4, "planner": "a", "plan_xyyaw": [0.0] * 24}
    bad = row | {"planner": "b", "plan_xyyaw": [0.0] * 23 + [float("nan")]}
    table = pa.Table.from_pylist([row, bad], schema=PLANS)
    result = validate("plans", plan_columns(table), rules_of(RULES, table="plans")).results[0]
    assert result.failed_keys == ("drive/4 b",)


def test_a_page_of_data_docs_shows_hostile_names_as_text_and_runs_nothing():
    rows = [
        AGENT | {"log_id": name, "track_token": name, "category": 77, "length_m": 99.0}
        for name in HOSTILE
        for _ in range(2)
    ]
    table = pa.Table.from_pylist(rows, schema=AGENTS)
    validation = validate_agents(table)
    assert {"agent_key_is_unique", "agent_category_is_known"} <= broken(validation)
    page = validation.html
    assert "Content-Security-Policy" in page and "script-src 'none'" in page
    assert page.index("Content-Security-Policy") < page.index("<style")
    assert not re.search(r"<(script|svg|iframe|object|embed)\b", page, flags=re.I)
    assert not re.search(r"<[^>]+\son(load|error)\s*=", page, flags=re.I)
    assert not re.search(r"<[^>]+javascript:", page, flags=re.I)
    assert "alert(2)" in page  # the name is there, as text
    assert "http://" not in page and "https://" not in page


def test_strings_are_escaped_in_every_place_of_a_result():
    value = {"a<b": ["<i>", ("$x", 3, None)], "n": 1.5, "{{x}}": {"deep": "'\""}}
    assert escaped(value) == {
        "a&lt;b": ["&lt;i&gt;", ("&#36;x", 3, None)],
        "n": 1.5,
        "&#123;&#123;x&#125;&#125;": {"deep": "&#x27;&quot;"},
    }
