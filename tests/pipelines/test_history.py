"""One lake, one history: where Dagster keeps its runs, and what the UI shows of them."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from assets.chain.per_log import PARTITIONS
from pipelines.environment import run_target
from pipelines.execution import sync_partitions
from pipelines.history import LakeInstance, folder_in_home, history_folder, open_history
from pipelines.process_tag import process_of
from storage.errors import ConfigError
from storage.writers import this_writer

KEPT = {"dagster.yaml", "workspace.yaml", "pyproject.toml"}  # files of a checkout
REPOSITORY_TAG = {".dagster/repository": "__repository__@latentvla"}


@dg.job
def nothing():
    """A run without a step."""


def run_nothing(lake) -> dg.DagsterRun:
    """The record of a run of that job in the history of this lake."""
    with open_history(lake) as instance:
        result = nothing.execute_in_process(instance=instance)
        return instance.get_run_by_id(result.run_id)


def run_ids(lake) -> list[str]:
    """Runs in the history of a lake."""
    with open_history(lake) as instance:
        return [run.run_id for run in instance.get_runs()]


def test_two_lakes_in_one_checkout_share_neither_runs_nor_partitions(in_checkout):
    run = run_nothing("lake/a")
    with open_history("lake/a") as a, open_history("lake/b") as b:
        a.add_dynamic_partitions(PARTITIONS, ["log_of_a"])
        b.add_dynamic_partitions(PARTITIONS, ["log_of_b"])
        b.delete_dynamic_partition(PARTITIONS, "log_of_b")
        assert [item.run_id for item in a.get_runs()] == [run.run_id] and not b.get_runs()
        assert list(a.get_dynamic_partitions(PARTITIONS)) == ["log_of_a"]
    assert {path.name for path in in_checkout.iterdir()} == {*KEPT, "lake"}


def test_a_lake_that_is_moved_copied_or_linked_keeps_its_history(in_checkout):
    run = run_nothing("lake")
    Path("linked").symlink_to("lake")
    shutil.copytree("lake", "copied")
    assert run_ids("linked") == run_ids("copied") == [run.run_id]
    shutil.move("lake", "moved")
    assert run_ids(in_checkout / "moved") == [run.run_id]


def test_a_lake_may_have_an_odd_name(in_checkout):
    name = 'ümläut %s {x} it\'s "q" a#b a&b=c:@'
    run = run_nothing(name)
    assert run_ids(name) == [run.run_id]
    assert {path.name for path in in_checkout.iterdir()} == {*KEPT, name}


def test_a_name_that_the_database_cannot_hold_is_refused_and_nothing_is_written(in_checkout):
    with pytest.raises(ConfigError, match="cannot lie in this lake"):
        open_history("a?b")
    assert {path.name for path in in_checkout.iterdir()} == KEPT


def test_every_program_of_dagster_takes_the_history_of_the_lake_that_the_environment_chooses(
    in_checkout, tmp_path, monkeypatch
):
    monkeypatch.setenv("LATENTVLA_SCALE", "smoke")
    folder = str(history_folder(run_target().lake))
    assert folder == str(in_checkout / "lake" / "smoke" / ".dagster")
    temporary = tmp_path / ".tmp_dagster_home_x"  # what Dagster proposes without DAGSTER_HOME
    for base in (temporary, in_checkout):
        ref = InstanceRef.from_dir(str(base), config_dir=str(in_checkout))
        assert ref.local_artifact_storage.base_dir == folder
        assert (
            folder in ref.storage_data.config_yaml and folder in ref.compute_logs_data.config_yaml
        )


def test_a_home_of_the_user_takes_precedence_and_that_is_said(in_checkout, tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy("dagster.yaml", home)
    with open_history("lake/a", {"DAGSTER_HOME": str(home)}) as instance:
        assert instance.root_directory == str(folder_in_home(home, "lake/a"))
    assert str(home) in capsys.readouterr().err and not Path("lake").exists()


def test_two_lakes_in_one_home_share_no_partitions_and_no_runs(in_checkout, tmp_path, monkeypatch):
    """The command line, and the UI, whose lake the environment chooses."""
    shutil.copy("dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with open_history("lake/a") as a, open_history("other/a") as b:
        sync_partitions(a, ["log of a"])
        sync_partitions(b, ["log of b"])
        run = a.create_run_for_job(nothing)
        assert a.get_dynamic_partitions(PARTITIONS) == ["log of a"]
        assert b.get_dynamic_partitions(PARTITIONS) == ["log of b"]
        assert b.get_runs_count() == 0
    monkeypatch.setenv("LATENTVLA_LAKE", "lake/a")
    with dg.DagsterInstance.get() as ui:
        assert isinstance(ui, LakeInstance) and ui.get_run_by_id(run.run_id)
        assert ui.get_dynamic_partitions(PARTITIONS) == ["log of a"]


def test_the_checkout_as_home_stands_for_the_lake(in_checkout, capsys):
    with open_history("lake/a", {"DAGSTER_HOME": str(in_checkout)}) as instance:
        assert instance.root_directory == str(in_checkout / "lake" / "a" / ".dagster")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("home", ["no/such/folder", "/no/such/folder", "dagster.yaml"])
def test_a_home_that_is_none_is_refused(in_checkout, home):
    with pytest.raises(ConfigError, match="DAGSTER_HOME") as error:
        open_history("lake/a", {"DAGSTER_HOME": home})
    assert error.value.found == home and not Path("lake").exists()


@pytest.mark.parametrize(
    "text", ["[", "- a list", "just text", "concurrency: 3", "surprise: {}", "\0"]
)
def test_settings_that_cannot_be_used_are_named(in_checkout, text):
    Path("dagster.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        open_history("lake/a")
    assert error.value.where == in_checkout / "dagster.yaml"


def test_a_folder_without_settings_is_no_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no Dagster instance"):
        open_history("lake/a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lake", ["a_file", "a_file/lake", "/proc/lake"])
def test_a_history_that_cannot_be_opened_is_named(in_checkout, lake):
    Path("a_file").write_text("")
    with pytest.raises(ConfigError, match="history cannot be used") as error:
        open_history(lake)
    assert error.value.where == Path(lake).absolute() / ".dagster"


def test_a_damaged_history_is_named(in_checkout):
    run_nothing("lake")
    for file in Path("lake/.dagster").rglob("*.db"):
        file.write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match="history cannot be used"):
        open_history("lake")


def test_a_run_of_the_command_line_is_in_the_timeline_and_among_the_runs_of_its_job(in_checkout):
    run = run_nothing("lake")
    origin = run.remote_job_origin  # the timeline leaves out runs without one
    assert (origin.location_name, origin.job_name) == ("latentvla", "nothing")
    with open_history("lake") as instance:
        listed = instance.get_runs(dg.RunsFilter(job_name="nothing", tags=REPOSITORY_TAG))
    assert [item.run_id for item in listed] == [run.run_id]
    assert process_of(run.run_id, run.tags) == this_writer()
