"""The object cache is private and closed, and files are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gradc as gc
from gradc.machines import recall
from gradc.runtime import cache, files

KEY, OTHER = "ab" + "0" * 62, "cd" + "1" * 62
CODE = b"machine code"
ROOT = Path(__file__).resolve().parent.parent

needs_owners = pytest.mark.skipif(not hasattr(os, "getuid"), reason="files have no owners here")
needs_root = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away")


@pytest.fixture
def store(tmp_path: Path) -> cache.ObjectCache:
    store = cache.ObjectCache(tmp_path / "cache")
    store.put(KEY, CODE)
    assert store.get(KEY) == CODE
    return store


def entry(store: cache.ObjectCache, key: str = KEY) -> Path:
    return store.directory / key[:2] / f"{key[2:]}.obj"


def again(store: cache.ObjectCache) -> cache.ObjectCache:
    """The same directory as a new process sees it."""
    return cache.ObjectCache(store.directory, store.limit)


# -- what lies on the disk ---------------------------------------------------------------------------------------------
@needs_owners
def test_nobody_else_can_look_into_it_whatever_the_umask(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; os.umask(0)\nfrom gradc.runtime.cache import ObjectCache\n"
        "ObjectCache(pathlib.Path(sys.argv[1])).put(sys.argv[2], b'x')"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a" / "b", KEY], check=True, cwd=ROOT)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a", *(tmp_path / "a").rglob("*")) if p.is_dir()}
    assert modes == {0o700}
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*") if p.is_file()} == {0o600}


@pytest.mark.parametrize("replace", [
    lambda path, elsewhere: path.symlink_to(elsewhere),
    lambda path, elsewhere: path.symlink_to("/dev/zero"),
    lambda path, elsewhere: os.mkfifo(path),
    lambda path, elsewhere: path.mkdir(),
], ids=["link", "link to a device", "pipe", "directory"])  # fmt: skip
@needs_owners
def test_only_regular_files_are_read_and_nothing_waits(
    store: cache.ObjectCache, tmp_path: Path, replace: Callable[[Path, Path], None]
) -> None:
    path = entry(store)
    path.rename(tmp_path / "elsewhere.obj")
    replace(path, tmp_path / "elsewhere.obj")
    assert store.get(KEY) is None
    if not path.is_dir():
        store.put(KEY, CODE)
        assert store.get(KEY) == CODE and path.is_file() and not path.is_symlink()


@needs_owners
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_others_may_write_is_not_read(store: cache.ObjectCache, what: str) -> None:
    path = entry(store)
    (path if what == "file" else path.parent).chmod(0o777)
    assert store.get(KEY) is None and store.stats().rejected == 1


@needs_root
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_belongs_to_another_user_is_not_read(store: cache.ObjectCache, what: str) -> None:
    path = entry(store)
    os.chown(path if what == "file" else path.parent, 65534, 65534)
    assert store.get(KEY) is None


def test_an_entry_from_elsewhere_is_not_read(store: cache.ObjectCache, tmp_path: Path) -> None:
    foreign = cache.ObjectCache(tmp_path / "foreign")
    foreign.put(KEY, b"evil code")
    shutil.copy(entry(foreign), entry(store))
    assert store.get(KEY) is None and store.stats().rejected == 1
    store.put(KEY, CODE)
    assert store.get(KEY) == CODE


def test_an_entry_does_not_pass_for_another_ones(store: cache.ObjectCache) -> None:
    (store.directory / OTHER[:2]).mkdir(0o700)
    shutil.copy(entry(store), entry(store, OTHER))
    assert store.get(OTHER) is None


@pytest.mark.parametrize("damage", [b"", b"short", bytes(64)], ids=["empty", "short", "long"])
def test_entries_are_worth_nothing_without_their_secret(store: cache.ObjectCache, damage: bytes) -> None:
    secret = store.directory / "own" / "secret"
    secret.write_bytes(damage)
    fresh = again(store)
    assert fresh.get(KEY) is None
    fresh.put(KEY, CODE)
    assert again(store).get(KEY) == CODE and len(secret.read_bytes()) == 32


def test_processes_that_start_together_share_one_secret(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    program = (
        "import pathlib, sys\nfrom gradc.runtime.cache import ObjectCache\n"
        "store = ObjectCache(pathlib.Path(sys.argv[1]))\nfor key in sys.argv[2:]: store.put(key, key.encode())"
    )
    keys = [f"{k:02x}" + "0" * 62 for k in range(4)]
    writers = [subprocess.Popen([sys.executable, "-c", program, directory, key], cwd=ROOT) for key in keys]
    assert [w.wait() for w in writers] == [0] * 4
    store = cache.ObjectCache(directory)
    assert [store.get(key) for key in keys] == [key.encode() for key in keys]


# -- directories that cannot be trusted --------------------------------------------------------------------------------
@needs_owners
@pytest.mark.parametrize("weak", ["itself", "above"])
def test_a_directory_that_others_can_change_is_not_used_and_that_is_said(store: cache.ObjectCache, weak: str) -> None:
    (store.directory if weak == "itself" else store.directory.parent).chmod(0o777)
    fresh = again(store)
    with pytest.warns(gc.CacheWarning, match=r"cache is off.*others may.*GRADC_CACHE_DIR") as told:
        assert fresh.get(KEY) is None
    assert told[0].filename == __file__
    fresh.put(OTHER, CODE)
    assert not entry(store, OTHER).exists()
    refused = fresh.stats().refused
    assert refused is not None and "others may" in refused


@needs_owners
def test_a_sticky_directory_above_is_as_good_as_a_private_one(store: cache.ObjectCache) -> None:
    store.directory.parent.chmod(0o1777)
    assert again(store).get(KEY) == CODE


@needs_root
def test_a_directory_of_another_user_on_the_way_is_named(store: cache.ObjectCache) -> None:
    os.chown(store.directory.parent, 65534, 65534)
    assert f"{store.directory.parent} belongs to user 65534" in str(files.why_not_private(store.directory))


@needs_owners
def test_links_on_the_way_are_followed_and_their_places_looked_at(store: cache.ObjectCache, tmp_path: Path) -> None:
    open_place = tmp_path / "open"
    open_place.mkdir()
    link = open_place / "link"
    link.symlink_to(store.directory)
    assert cache.ObjectCache(link).get(KEY) == CODE
    open_place.chmod(0o777)
    assert "open" in str(files.why_not_private(link))
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert "circle" in str(files.why_not_private(circle))


# -- what is removed ---------------------------------------------------------------------------------------------------
def test_only_gradcs_own_files_are_removed(store: cache.ObjectCache) -> None:
    foreign = [
        store.directory / "3d" / "teapot.obj",
        store.directory / "dl" / "film.mkv.part",
        store.directory / "ab" / ("f" * 62 + ".obj"),  # the right name, and another content
        store.directory / "ab" / (f".{'f' * 62}.obj.{'0' * 12}.part"),
    ]
    for file in foreign:
        file.parent.mkdir(0o700, exist_ok=True)
        file.write_text("v 0 0 0\n" * 20_000)
        os.utime(file, (1, 1))
    torn = store.directory / "ab" / (f".{KEY[2:]}.obj.{'1' * 12}.part")
    torn.write_bytes(entry(store).read_bytes()[:20])
    os.utime(torn, (1, 1))
    small = cache.ObjectCache(store.directory, limit=20_000)
    for k in range(30):
        small.put(f"{k:02x}" + "2" * 62, bytes(900))
    assert small.stats().bytes <= 20_000 and not torn.exists()
    assert small.clear() > 0 and small.stats().files == 0
    assert all(file.exists() for file in foreign)


# -- the code version in the key ---------------------------------------------------------------------------------------
def test_the_state_of_the_compiler_is_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gradc"
    package.mkdir()
    source = package / "codegen.py"
    monkeypatch.setattr(recall, "_PACKAGE", package)

    def state(text: str, name: str = "codegen.py") -> str:
        source.unlink(missing_ok=True)
        (package / name).write_text(text)
        os.utime(package / name, (1, 1))
        recall._state_of_the_compiler.cache_clear()
        return recall._state_of_the_compiler()

    try:
        assert state("half = 0.5") == state("half = 0.5") != state("half = 0.7")
        source.unlink()
        assert state("bytes 1", "codegen.pyc") != state("bytes 2", "codegen.pyc")  # an installation without sources
    finally:
        monkeypatch.undo()
        recall._state_of_the_compiler.cache_clear()


# -- files written whole -----------------------------------------------------------------------------------------------
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a.o", tmp_path / "a.h"
    files.write_whole({first: b"old object", second: "old header"})
    written = files.create

    def full(path: Path, data: bytes, mode: int, wait: bool = False) -> None:
        written(path, data[:3], mode, wait)
        if b"header" in data:
            raise OSError("no space left on device")

    monkeypatch.setattr(files, "create", full)
    with pytest.raises(OSError, match="no space"):
        files.write_whole({first: b"new object", second: "new header"})
    assert (first.read_bytes(), second.read_text()) == (b"old object", "old header")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h", "a.o"]


def test_an_interrupted_write_leaves_nothing_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole({tmp_path / "page.html": "text"})
    assert not list(tmp_path.iterdir())


@needs_owners
def test_links_and_permissions_stay_as_they_were(tmp_path: Path) -> None:
    real, link = tmp_path / "real.o", tmp_path / "link.o"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    files.write_whole({link: b"new"})
    assert link.is_symlink() and real.read_bytes() == b"new" and stat.S_IMODE(real.stat().st_mode) == 0o640


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    files.write_whole({Path(os.devnull): b"data"})
    assert not Path(os.devnull).is_file()
