"""Parts, manifests, resume and locks."""

import os
import signal
import subprocess
import sys
import textwrap

import pyarrow as pa
import pytest

from schemas import SCHEMA_VERSION
from schemas.run_folder import RunFolder, parse_shard, write_atomic

CONFIG = {"temperature": 0.7}


def table(*values: int) -> pa.Table:
    return pa.table({"value": list(values)})


def begin(run, *, config=CONFIG, inputs=None, parts=3):
    return run.stage("generate").begin(config=config, inputs=inputs or {}, parts=parts)


def test_a_finished_stage_reads_back_in_order_and_knows_its_digest(tmp_path):
    run = RunFolder(tmp_path)
    writer = begin(run, parts=2)
    writer.commit(1, table(3))
    writer.commit(0, table(1, 2))
    writer.finish(counts={"rows": 3}, reasons={"TIE": 1})
    stage = run.stage("generate")
    assert [t["value"].to_pylist() for t in stage.tables()] == [[1, 2], [3]]
    assert stage.completed().counts == {"rows": 3}
    assert stage.digest() == RunFolder(tmp_path).stage("generate").digest()


def test_a_stage_goes_on_after_its_last_part(tmp_path):
    run = RunFolder(tmp_path)
    begin(run).commit(1, table(1))
    assert begin(run).missing() == [0, 2]


@pytest.mark.parametrize(
    "change", [{"config": {"temperature": 1.0}}, {"inputs": {"prompts": "x"}}, {"parts": 4}]
)
def test_a_changed_config_or_input_starts_the_stage_again(tmp_path, change):
    run = RunFolder(tmp_path)
    begin(run).commit(1, table(1))
    assert begin(run, **change).missing() == list(range(change.get("parts", 3)))


def test_a_complete_stage_is_not_made_again(tmp_path):
    run = RunFolder(tmp_path)
    writer = begin(run, parts=1)
    assert not writer.complete
    writer.commit(0, table(1))
    first = writer.finish(counts={"rows": 1})
    again = begin(run, parts=1)
    assert again.complete
    assert again.finish(counts={"rows": 99}) == first


def test_the_digest_of_a_stage_changes_with_its_rows(tmp_path):
    digests = set()
    for name, value in (("a", 1), ("b", 2)):
        writer = begin(RunFolder(tmp_path / name), parts=1)
        writer.commit(0, table(value))
        writer.finish(counts={})
        digests.add(writer.stage.digest())
    assert len(digests) == 2


def test_other_kinds_are_committed_before_the_part_that_stands_for_them(tmp_path, monkeypatch):
    writer = begin(RunFolder(tmp_path), parts=1)
    replace = os.replace

    def fail_on_part(source, target):
        if "part-" in str(target):
            raise OSError("disk is full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_on_part)
    with pytest.raises(OSError, match="disk is full"):
        writer.commit(0, table(1), quarantine=table(2))
    assert writer.missing() == [0]
    assert len(writer.stage.files("quarantine")) == 1


def test_shards_share_the_parts_between_them(tmp_path):
    writer = begin(RunFolder(tmp_path), parts=5)
    assert writer.missing("0/2") == [0, 2, 4]
    assert writer.missing("1/2") == [1, 3]
    with pytest.raises(ValueError, match="k/n"):
        parse_shard("2/2")


def test_a_second_writer_is_refused_and_the_lock_goes_with_its_holder(tmp_path):
    run = RunFolder(tmp_path)
    refused = pytest.raises(ValueError, match="being written by another process")
    with run.writing(), refused, RunFolder(tmp_path).writing():
        pass
    with run.writing():
        pass


def test_two_shards_write_side_by_side_but_not_twice_the_same(tmp_path):
    run = RunFolder(tmp_path)
    with run.writing("0/2"), run.writing("1/2"):
        with pytest.raises(ValueError, match="another process"), run.writing("0/2"):
            pass
        with pytest.raises(ValueError, match="another process"), run.writing():
            pass


def test_a_manifest_of_another_schema_version_is_refused(tmp_path):
    begin(RunFolder(tmp_path))
    path = tmp_path / "generate" / "manifest.json"
    old = f'"schema_version": {SCHEMA_VERSION}'
    path.write_text(path.read_text().replace(old, '"schema_version": 0'))
    with pytest.raises(ValueError, match="schema version 0"):
        RunFolder(tmp_path).stage("generate").manifest()


def test_a_damaged_manifest_is_named(tmp_path):
    begin(RunFolder(tmp_path))
    (tmp_path / "generate" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json' is damaged"):
        RunFolder(tmp_path).stage("generate").manifest()


def test_an_unfinished_stage_is_no_input(tmp_path):
    begin(RunFolder(tmp_path))
    with pytest.raises(ValueError, match=r"'generate' .* is not finished"):
        RunFolder(tmp_path).stage("generate").completed()
    with pytest.raises(ValueError, match=r"'rank' .* has not been run"):
        RunFolder(tmp_path).stage("rank").completed()


def test_a_folder_without_stages_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        RunFolder.existing(tmp_path)


KILLED_WRITER = """
    import os, sys
    from pathlib import Path
    from schemas.run_folder import write_atomic

    step, path = sys.argv[1], Path(sys.argv[2])
    def die(*args):
        os.kill(os.getpid(), 9)
    setattr(os, step, die)
    write_atomic(path, b"new")
"""


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_kill_between_write_sync_and_rename_leaves_the_old_file_whole(tmp_path, step):
    target = tmp_path / "file"
    write_atomic(target, b"old")
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED_WRITER), step, str(target)], check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    write_atomic(target, b"newer")
    assert target.read_bytes() == b"newer"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
