"""Files on disk that others may not spoil: written whole or not at all, and read only where this user alone writes.

Enters: paths.  Leaves: files in their final form, or the bytes of a file that nobody else can have written.
Invariant: a file that stood at a path before is there as it was, or replaced by a complete one; a reader never waits,
never follows a link, and never takes more than it was told to.  Start reading at `write_whole` and `read_private`;
`build_whole` is for large files that others write, and lasts through a loss of power.

A directory is *private* when nobody but its owner and the superuser can put anything into it, or in place of it or of a
directory above it: what sshd asks of a user's keys (sshd_config(5), StrictModes).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
_HAS_LOCKS: bool = fcntl is not None

_LINKS = 40  #: more links than this on the way to a directory are a circle
_UNBLOCKED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_HAS_OWNERS = hasattr(os, "getuid")
_STALE_SECONDS = 3600.0  #: where no lock says so, a folder of an unfinished file is abandoned after so long
_PART_NAME = re.compile(r"\.(?P<name>.*)\.[0-9a-f]{12}\.part", re.DOTALL)


# -- writing -----------------------------------------------------------------------------------------------------------


def write_whole(files: Mapping[Path, str | bytes]) -> list[Path]:
    """Write each file beside its place first, and move all of them there when every byte is on disk.

    Text is UTF-8.  A file that stands there keeps its permissions, and its bytes if anything fails on the way; what is
    no regular file (a pipe, ``/dev/stdout``) is written to as it is.  Raises OSError; before anything is written for a
    path that can name no file.
    """
    parts: list[tuple[Path, Path]] = []
    for path in files:
        must_name_a_file(path)
    try:
        for path, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            place = Path(os.path.realpath(path))
            if place.exists() and not place.is_file():
                place.write_bytes(data)
                continue
            part = part_beside(place)
            parts.append((part, place))
            _write_part(part, place, data)
        while parts:
            os.replace(*parts[0])
            del parts[0]
    finally:
        for part, _ in parts:
            with suppress(OSError):
                part.unlink()
    return list(files)


def must_name_a_file(path: Path) -> None:
    """FileNotFoundError for a path with a null byte, which no file has; IsADirectoryError for a directory."""
    if "\0" in str(path):
        raise FileNotFoundError(f"{str(path)!r} has a null byte, which no file's name has; write the path without it")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; name a file in it")


def part_beside(place: Path) -> Path:
    """A name for what is not complete yet, in the directory of ``place``."""
    return place.with_name(f".{_cut(place.name)}.{os.urandom(6).hex()}.part")


def _cut(name: str) -> str:
    """As much of a name as leaves room for more in the 255 bytes that a name may have."""
    return os.fsencode(name)[:200].decode("utf-8", "ignore")


def _write_part(part: Path, place: Path, data: bytes) -> None:
    mode = _mode_to_keep(place)
    create(part, data, 0o666, wait=True)
    if mode is not None:
        part.chmod(mode)


def _mode_to_keep(place: Path) -> int | None:
    """The permissions of what stands at ``place``, which may be replaced; None where nothing does."""
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{place}: there is no directory {str(place.parent)!r}")
    mode = None
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(place.stat().st_mode)
    if mode is not None and not os.access(place, os.W_OK):
        raise PermissionError(f"{place} is write-protected")
    return mode


def create(path: Path, data: bytes, mode: int, wait: bool = False) -> None:
    """A new file with ``data``; ``wait`` until the disk has it.  Raises FileExistsError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        if wait:
            file.flush()
            os.fsync(file.fileno())


# -- large files that last -----------------------------------------------------------------------------------------


def build_whole(path: Path, build: Callable[[Path], None]) -> None:
    """Have ``build(file)`` make a file in a new folder beside ``path``, and move it there when the disk has it.

    The file is synchronised, renamed, and its directory synchronised, so that what stands at ``path`` after a loss of
    power is the old file or the new one, and the new one if this function has returned.  A link is followed; the
    permissions of the old file are kept.  A process that is killed leaves its folder, which the next call for the same
    path removes.  Raises OSError, before anything is made for a path that cannot be written.
    """
    must_name_a_file(path)
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():
        raise FileExistsError(errno.EEXIST, "is no regular file", str(place))
    mode = _mode_to_keep(place)
    remove_abandoned(place.parent, lambda name: name == _cut(place.name))
    part, lock = _locked_folder(place)
    try:
        file = part / "file"
        create(file, b"", 0o666)
        mode = stat.S_IMODE(file.stat().st_mode) if mode is None else mode
        build(file)
        file.chmod(mode)
        handle = os.open(file, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(file, place)
        sync_directory(place.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked_folder(place: Path) -> tuple[Path, int | None]:
    """A new folder beside ``place``, locked for as long as the handle is open, so for no longer than this process."""
    while True:
        part = part_beside(place)
        part.mkdir(0o700)
        lock = _locked(part, wait=True)
        if part.exists():  # nobody took it for abandoned before the lock was there
            return part, lock
        if lock is not None:
            os.close(lock)


def _locked(folder: Path, wait: bool) -> int | None:
    """A handle that holds the lock of ``folder``; None where there is no folder or there are no locks.

    BlockingIOError if another process holds it and this one does not ``wait``.
    """
    if not _HAS_LOCKS:
        return None
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return handle


def remove_abandoned(directory: Path, of: Callable[[str], bool]) -> None:
    """Remove what processes that were killed left of unfinished files in ``directory`` whose names satisfy ``of``."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            match = _PART_NAME.fullmatch(entry.name)
            if match and of(match["name"]) and entry.is_dir(follow_symlinks=False):
                _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(part: Path) -> None:
    with suppress(OSError):
        lock = _locked(part, wait=False)
        if lock is not None or part.stat().st_mtime < time.time() - _STALE_SECONDS:
            shutil.rmtree(part, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def make_durable(directory: Path) -> None:
    """Make ``directory``, and what is missing above it, and wait until the disk has them."""
    for missing in reversed([d for d in (directory, *directory.parents) if not d.exists()]):
        with suppress(FileExistsError):
            missing.mkdir()
        sync_directory(missing.parent)


def sync_directory(directory: Path) -> None:
    """Wait until the disk has the names in ``directory``.

    Windows cannot synchronise a directory, and some network file systems refuse to (EINVAL): there a rename is atomic,
    but a loss of power soon after it may bring the old name back.
    """
    if os.name == "nt":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


# -- what this user alone can write ------------------------------------------------------------------------------------


def open_private(path: Path) -> tuple[BinaryIO, int] | None:
    """A file that this user alone can have written, open to read, with its size.

    None for what is anything else: a link, a pipe, a device, a file of another user or one that others may write.  Its
    directory must be private.  Raises OSError, FileNotFoundError among them.
    """
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        return None
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | _UNBLOCKED), "rb")
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link, which is not followed
            return None
        raise
    status = os.fstat(file.fileno())
    if is_own_file(status):
        return file, status.st_size
    file.close()
    return None


def read_private(path: Path, limit: int) -> bytes | None:
    """All bytes of a file that `open_private` opens; None where it does not, or where there are more than ``limit``."""
    opened = open_private(path)
    if opened is None:
        return None
    with opened[0] as file:
        return file.read() if opened[1] <= limit else None


def is_own_file(status: os.stat_result) -> bool:
    """Whether this is a regular file of this user that nobody else may write."""
    return stat.S_ISREG(status.st_mode) and _is_own(status)


def is_own_directory(status: os.stat_result) -> bool:
    """Whether this is a directory of this user into which nobody else may put anything."""
    return stat.S_ISDIR(status.st_mode) and _is_own(status)


def _is_own(status: os.stat_result) -> bool:
    return not _HAS_OWNERS or (status.st_uid == os.getuid() and not status.st_mode & 0o022)


def make_private(directory: Path) -> None:
    """Make ``directory``, and what is missing above it, so that only this user can look into it, whatever the umask."""
    for missing in reversed([d for d in (directory, *directory.parents) if not d.exists()]):
        with suppress(FileExistsError):
            missing.mkdir(0o700)


def make_own(directory: Path) -> None:
    """Make ``directory``, in a private one; PermissionError if one stands there into which others may put anything."""
    with suppress(FileExistsError):
        directory.mkdir(0o700)
    if not is_own_directory(os.lstat(directory)):
        raise PermissionError(f"{directory} is not this user's alone")


def why_not_private(directory: Path) -> str | None:
    """Who else could put a file into ``directory`` or swap it for another one, in words; None if nobody can.

    Every directory on the way is looked at, those that hold a link on it included.
    """
    if not _HAS_OWNERS:
        return None
    done, rest, links = Path(directory.anchor), list(directory.parts[1:]), 0
    while True:
        status = os.lstat(done)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _LINKS:
                return f"{done} is a circle of links"
            target = Path(os.readlink(done))
            rest = [*target.parts[target.is_absolute() :], *rest]
            done = Path(target.anchor) if target.is_absolute() else done.parent
            continue
        if (problem := _weakness(done, status, last=not rest)) is not None:
            return problem
        if not rest:
            return None
        step = rest.pop(0)
        done = done.parent if step == ".." else done / step


def _weakness(directory: Path, status: os.stat_result, last: bool) -> str | None:
    if not stat.S_ISDIR(status.st_mode):
        return f"{directory} is not a directory"
    if last:
        if status.st_uid != os.getuid():
            return f"{directory} belongs to user {status.st_uid}, not to this one ({os.getuid()})"
        return f"others may write in {directory}: chmod 700" if status.st_mode & 0o022 else None
    if status.st_uid not in (0, os.getuid()):
        return f"{directory} belongs to user {status.st_uid}"
    shared = status.st_mode & (0o002 if _is_private_group(status.st_gid) else 0o022)
    if shared and not status.st_mode & stat.S_ISVTX:
        return f"others may rename what lies in {directory}"
    return None


def _is_private_group(group: int) -> bool:
    """Whether a group is the one that some systems make for each user alone, of the same name."""
    try:
        import grp
        import pwd

        return grp.getgrgid(group).gr_name == pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return False
