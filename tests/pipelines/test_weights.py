"""Published weights of scale navsim: a run that needs them and lacks them ends before any work."""

import json
from pathlib import Path

import pytest

from assets.chain.weights import published_weights, require_weights
from pipelines.cli import main
from pipelines.execution import assets_until
from pipelines.presets import PRESETS, preset
from storage.errors import ConfigError
from tests.worlds import tiny_openscene as tiny

VARIABLES = {"LATENTVLA_DINOV2": "dinov2", "LATENTVLA_QWEN": "qwen2_5_vl"}


def weights_folder(folder: Path, model_type: str) -> Path:
    """A folder that looks like published weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "model.safetensors").touch()
    return folder


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Both variables name good folders, by variable; a test changes what it is about."""
    preset.cache_clear()
    folders = {}
    for variable, model_type in VARIABLES.items():
        folders[variable] = weights_folder(tmp_path / model_type, model_type)
        monkeypatch.setenv(variable, str(folders[variable]))
    yield folders
    preset.cache_clear()


def require_until(until: str) -> None:
    require_weights(PRESETS["navsim"](), assets_until(until))


def test_weights_that_are_there_are_accepted(weights):
    require_until("report")


@pytest.mark.parametrize(
    ("variable", "asset", "before"),
    [("LATENTVLA_DINOV2", "codebook", "trajectories"), ("LATENTVLA_QWEN", "vla", "relabeled")],
)
@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_variable_stops_the_first_asset_that_needs_it_and_no_earlier_one(
    variable, asset, before, value, weights, monkeypatch
):
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    require_until(before)
    for until in (asset, "report"):
        with pytest.raises(ConfigError) as error:
            require_until(until)
        assert variable in str(error.value) and f"'{asset}'" in str(error.value)
        assert "a local folder with config.json and weights" in str(error.value.expected)
        assert error.value.found == "the variable is not set"
        assert f"set {variable}" in str(error.value.do)
        assert f"--until {before}" in str(error.value.do)


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    ("missing", "found"),
    [("config.json", "without config.json"), ("model.safetensors", "without a file")],
)
def test_a_folder_without_configuration_or_weights_is_refused(variable, missing, found, weights):
    (weights[variable] / missing).unlink()
    with pytest.raises(ConfigError, match=variable) as error:
        require_until("report")
    assert str(weights[variable]) in str(error.value.found) and found in str(error.value.found)


def test_weights_of_another_model_than_qwen_are_refused(weights, monkeypatch):
    monkeypatch.setenv("LATENTVLA_QWEN", str(weights["LATENTVLA_DINOV2"]))
    with pytest.raises(ConfigError, match="model_type 'dinov2' instead of 'qwen2_5_vl'"):
        require_until("vla")


@pytest.mark.parametrize("scale", ["smoke", "synthetic"])
def test_the_other_scales_need_no_published_weights(scale):
    assert published_weights(PRESETS[scale]()) == []
    require_weights(PRESETS[scale](), assets_until("report"))


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_run_without_weights_ends_before_the_lake_and_dagster_are_touched(
    variable, weights, capsys, tmp_path, monkeypatch
):
    tiny.write_log(tmp_path / "raw", frames=4)
    home, lake = tmp_path / "home", tmp_path / "lake"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.delenv(variable)
    target = ("--scale", "navsim", "--raw", str(tmp_path / "raw"), "--lake", str(lake))
    assert main(["run", *target]) == 2
    error = capsys.readouterr().err
    assert variable in error and "what to do" in error and "Traceback" not in error
    assert not lake.exists() and [file.name for file in home.iterdir()] == ["dagster.yaml"]


def test_config_and_status_need_no_weights(weights, capsys, tmp_path, monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable)
    assert main(["config", "--scale", "navsim"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert config["codebook"]["model"]["vision_model"] == "" == config["vla"]["vlm"]["pretrained"]
    tiny.write_log(tmp_path / "raw", frames=4)
    raw, lake = str(tmp_path / "raw"), str(tmp_path / "lake")
    assert main(["status", "--scale", "navsim", "--raw", raw, "--lake", lake]) == 0
    assert "0 of 1 logs current" in capsys.readouterr().out
