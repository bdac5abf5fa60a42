"""A folder of checkpoints: what is kept, what is passed over, and trainings that are killed and go on bit for bit."""

from __future__ import annotations

import errno
import math
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradc as gc


def names(checkpoints: gc.Checkpoints) -> list[str]:
    return [path.name for path in checkpoints.paths]


def steps(checkpoints: gc.Checkpoints) -> list[int]:
    return [int(name.split("-")[2].partition(".")[0]) for name in names(checkpoints)]


def filled(folder: Path, count: int = 3, **options: Any) -> gc.Checkpoints:
    checkpoints = gc.Checkpoints(folder, **options)
    for step in range(1, count + 1):
        checkpoints.save(step, {"w": np.full(3, float(step))}, metric=1.0 / step, record={"position": [step, 0]})
    return checkpoints


# -- what is kept ------------------------------------------------------------------------------------------------------
def test_the_last_are_kept_and_the_best(tmp_path: Path) -> None:
    checkpoints = gc.Checkpoints(tmp_path / "a" / "b", keep=2, best="min")
    assert checkpoints.latest() is None and checkpoints.best() is None and not checkpoints.folder.exists()
    for step, loss in enumerate([3.0, math.nan, 1.0, 1.0, 2.0, np.float32(5), None]):
        path = checkpoints.save(step, {"w": np.full(2, step)}, metric=loss, record={"at": (step, np.int64(2))})
        assert path.is_file()
    assert steps(checkpoints) == [2, 5, 6]
    like = {"w": np.zeros(2, int)}
    last, best = checkpoints.latest(like), checkpoints.best(like)
    assert (
        last.step == 6 and last.metric is None and last.record == {"at": [6, 2]} and last.path == checkpoints.paths[-1]
    )
    assert best.step == 2 and best.metric == 1.0 and best.tree["w"].tolist() == [2, 2]
    assert repr(checkpoints) == f"<Checkpoints in {tmp_path / 'a' / 'b'}: 3 files, the last of step 6>"


def test_the_greatest_is_the_best_when_asked_for(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, 5, keep=1, best="max")
    assert steps(checkpoints) == [1, 5] and checkpoints.best().step == 1
    assert gc.Checkpoints(tmp_path, best="min").best().step == 5
    with pytest.raises(ValueError, match="best='min'"):
        gc.Checkpoints(tmp_path).best()


def test_all_are_kept_when_asked_for(tmp_path: Path) -> None:
    assert steps(filled(tmp_path, 5, keep=None)) == [1, 2, 3, 4, 5]


def test_the_newest_is_the_one_that_was_saved_last(tmp_path: Path) -> None:
    """A run that goes on from an earlier step is not confused by what an earlier run left of later ones."""
    filled(tmp_path, 3, keep=2)
    again = gc.Checkpoints(tmp_path, keep=2)
    again.save(1, {"w": np.zeros(3)})
    assert again.latest().step == 1 and steps(again) == [3, 1]
    assert names(again) == ["000003-step-3.safetensors", "000004-step-1.safetensors"]


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    others = ["notes.txt", "000001-step-1.safetensors.bak", "1-step-1.safetensors", "x000001-step-1.safetensors"]
    for name in others:
        (tmp_path / name).write_text("mine")
    filled(tmp_path, 4, keep=1)
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "000004-step-4.safetensors"])


# -- what is passed over -----------------------------------------------------------------------------------------------
def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


BAD = {
    "cut off": lambda path: os.truncate(path, path.stat().st_size - 5),
    "checksum": _flip,
    r"gradc\.save|damaged": lambda path: path.write_bytes(b"\x08" + bytes(7) + b"{}      "),
    "header": lambda path: path.write_bytes(b""),
    "no regular": lambda path: (path.unlink(), os.mkfifo(path)),
    "directory": lambda path: (path.unlink(), path.mkdir()),
    "link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "states no step": lambda path: gc.save(path, {"w": np.ones(3)}),
}


@pytest.mark.parametrize("how", BAD)
def test_what_cannot_be_read_is_named_and_the_one_before_is_taken(how: str, tmp_path: Path) -> None:
    checkpoints = filled(tmp_path, keep=2, best="min")
    bad = checkpoints.paths[-1]
    BAD[how](bad)
    fresh = gc.Checkpoints(tmp_path, keep=2, best="min")
    with pytest.warns(gc.CheckpointWarning, match=f"(?s)000003-step-3.*passed over and kept.*{how}"):
        found = fresh.latest({"w": np.zeros(3)})
    assert found.step == 2 and found.tree["w"].tolist() == [2, 2, 2] and found.record == {"position": [2, 0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gc.CheckpointWarning)
        assert fresh.best().step == 2
        for step in (10, 11, 12):  # it does not count as one of the last, and is not removed
            fresh.save(step, {"w": np.zeros(3)}, metric=9.0)
        assert steps(fresh) == [2, 3, 11, 12] and os.path.lexists(bad)


def test_where_nothing_can_be_read_nothing_is_lost(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path)
    for path in checkpoints.paths:
        _flip(path)
    with pytest.warns(gc.CheckpointWarning) as warned:
        assert gc.Checkpoints(tmp_path).latest() is None
    assert len(warned) == 3 and len(checkpoints.paths) == 3


def test_a_tree_that_does_not_fit_is_no_damage(tmp_path: Path) -> None:
    checkpoints = filled(tmp_path)
    with pytest.raises(gc.CheckpointMismatchError, match=r"float64\[3\] in the file, float64\[4\] in like"):
        checkpoints.latest({"w": np.zeros(4)})


def test_one_that_vanishes_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process removes the newest after it was listed."""
    checkpoints = filled(tmp_path)
    listed = checkpoints.paths
    listed[-1].unlink()
    real, first = gc.Checkpoints._listed, [True]

    def stale(self: gc.Checkpoints) -> Any:
        found = real(self)
        if first and first.pop():
            found.append((listed[-1], found[-1][1]))
        return found

    monkeypatch.setattr(gc.Checkpoints, "_listed", stale)
    assert checkpoints.latest().step == 2


# -- where it cannot be written ----------------------------------------------------------------------------------------
def test_arguments_are_checked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file; name a folder"):
        gc.Checkpoints(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="null byte"):
        gc.Checkpoints("a\0b")
    for options, words in (({"keep": 0}, "keep"), ({"keep": True}, "keep"), ({"best": "least"}, "best")):
        with pytest.raises(ValueError, match=words):
            gc.Checkpoints(tmp_path, **options)
    checkpoints = gc.Checkpoints(tmp_path)
    for step in (-1, 1.0, True, 10**18):
        with pytest.raises(ValueError, match="step is a whole number"):
            checkpoints.save(step, {})
    for metric, record, words in (("x", {}, "metric"), (None, [1], "record"), (None, {"f": print}, r"record\['f'\]")):
        with pytest.raises(TypeError, match=words):
            checkpoints.save(1, {}, metric=metric, record=record)
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_prepared_before_a_long_run(tmp_path: Path) -> None:
    checkpoints = gc.Checkpoints(tmp_path / "new" / "run")
    checkpoints.prepare()
    assert checkpoints.folder.is_dir() and not os.listdir(checkpoints.folder)
    late = gc.Checkpoints(tmp_path / "late")
    (tmp_path / "late").touch()
    with pytest.raises(OSError):
        late.prepare()


def test_a_full_disk_loses_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is removed to make room before the new one is on disk."""
    checkpoints = filled(tmp_path, keep=1, best="max")
    before = {path: path.read_bytes() for path in checkpoints.paths}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="nothing was written") as caught:
                checkpoints.save(9, {"w": np.zeros(3)})
            assert caught.value.errno == errno.ENOSPC
        assert {Path(tmp_path, name): Path(tmp_path, name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_an_old_one_that_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = filled(tmp_path, 1, keep=1)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.warns(gc.CheckpointWarning, match="step-1.safetensors is no longer needed and cannot be removed"):
        checkpoints.save(2, {"w": np.zeros(3)})
    assert checkpoints.latest().step == 2


# -- trainings that are killed -----------------------------------------------------------------------------------------
@pytest.mark.skipif(not hasattr(os, "fork"), reason="trainings are killed in forked children")
@pytest.mark.parametrize("count", [6, pytest.param(100, marks=pytest.mark.nightly)])
def test_trainings_that_are_killed_end_with_the_same_bits(count: int, tmp_path: Path) -> None:
    """Each is killed twice at random, some in a save; see tests/killed_training.py."""
    root = Path(__file__).resolve().parent.parent
    program = [sys.executable, root / "tests" / "killed_training.py", tmp_path / "runs", str(count), "1"]
    done = subprocess.run(program, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{count} of {count} equal; killed ")
    assert int(re.search(r"killed (\d+) in a save", done.stdout)[1]) >= count / 3


_KILLED_AT = """
import os, signal, sys
import numpy as np
import gradc as gc
folder = sys.argv[1]
checkpoints = gc.Checkpoints(folder, keep=1)
checkpoints.save(1, {"w": np.full(3, 1.0)})
for name in ("fsync", "replace"):
    for before in (True, False):
        pid = os.fork()
        if not pid:
            real = getattr(os, name)
            def kill(*arguments):
                if not before: real(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            setattr(os, name, kill)
            checkpoints.save(2, {"w": np.full(3, 2.0)})
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
        found = checkpoints.latest()
        print(name, before, found.step, set(found.tree["w"].tolist()) == {float(found.step)})
checkpoints.save(3, {"w": np.full(3, 3.0)})
print(sorted(os.listdir(folder)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="trainings are killed in forked children")
def test_a_save_that_is_killed_between_its_system_calls_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    program = [sys.executable, "-c", _KILLED_AT, tmp_path]
    done = subprocess.run(
        program, capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parent.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "fsync True 1 True", "fsync False 1 True", "replace True 1 True", "replace False 2 True",
        "['000003-step-3.safetensors']",
    ]  # fmt: skip


def test_a_file_that_another_process_removed_at_once_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two write into one folder: the slower one's file may be no longer among the last before it is looked at."""
    from gradc.storage import checkpoints as module

    mine, theirs = gc.Checkpoints(tmp_path, keep=1), gc.Checkpoints(tmp_path, keep=1)
    whole = module.save

    def slow(path: Path, *args: Any, **options: Any) -> None:
        whole(path, *args, **options)
        monkeypatch.setattr(module, "save", whole)
        theirs.save(8, {"w": np.ones(3)})

    monkeypatch.setattr(module, "save", slow)
    assert mine.save(7, {"w": np.zeros(3)}).name == "000001-step-7.safetensors"
    assert steps(mine) == [8]
    mine.save(9, {"w": np.zeros(3)})
    assert steps(mine) == [9]
