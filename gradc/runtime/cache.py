"""Object files on disk, so that the second process does not compile what the first one did.

Enters: a key (hexadecimal SHA-256) and bytes.  Leaves: the same bytes, or nothing.
Invariant: what `get` returns is byte for byte what `put` was given under that key, by this user.  A file that is torn,
damaged, renamed, from another format, written by somebody else or copied in from elsewhere is no hit; it is overwritten
by the next `put`.  A disk that cannot be read or written costs time, never a result.  Start reading at `ObjectCache`.

Layout: ``DIRECTORY/ab/cdef….obj``, and ``DIRECTORY/own/secret``: 32 random bytes with which every entry is signed
(keyed BLAKE2b, RFC 7693).  Writers use a temporary file and `os.replace`, so readers need no lock.  Directories are
made for this user alone; one that others can write in is not used at all.  docs/security.md says what that is worth.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hmac import compare_digest
from pathlib import Path

from gradc.errors import CacheWarning
from gradc.process import cached_property, renewed
from gradc.runtime.files import (
    create,
    is_own_directory,
    make_own,
    make_private,
    open_private,
    part_beside,
    read_private,
    why_not_private,
)

FORMAT_VERSION = 2
DEFAULT_LIMIT = 512 * 2**20

#: magic, format version, payload length, key; behind it the payload, and the signature of both
_HEADER = struct.Struct("<8sIQ32s")
_SIGNATURE = 32
_MAGIC = b"gradcobj"
_SUFFIX, _PART = ".obj", ".part"
_NAME = re.compile(r"\.?(?P<key>[0-9a-f]{62})\.obj(?P<part>\.[0-9a-f]{12}\.part)?")
_SECRET, _SECRET_BYTES = os.path.join("own", "secret"), 32
_OWN = (str(Path(__file__).resolve().parent.parent), os.path.dirname(os.__file__))  #: frames nobody wants to be told of
_STALE_SECONDS = 3600.0
_WRITES_BETWEEN_SCANS = 64


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What the disk holds, and what this process did with it. ``bytes`` and ``limit`` in bytes.

    ``refused`` says why the directory is not used, if it is not.
    """

    directory: Path | None
    files: int = 0
    bytes: int = 0
    limit: int = DEFAULT_LIMIT
    hits: int = 0
    misses: int = 0
    rejected: int = 0
    evicted: int = 0
    failures: int = 0
    refused: str | None = None


class ObjectCache:
    """A directory of objects, bounded by evicting the least recently used. Safe across threads and processes."""

    def __init__(self, directory: Path, limit: int = DEFAULT_LIMIT):
        self.directory, self.limit = directory, limit
        self._lock = renewed(self, "_lock", threading.Lock)
        self._counts = CacheStats(directory, limit=limit)
        self._known_bytes = 0
        self._writes_until_scan = 0

    def get(self, key: str) -> bytes | None:
        """The bytes stored under ``key``, or None. A hit makes the file the most recently used."""
        path = self._path(key)
        try:
            folder = os.lstat(path.parent)
            if self._refused is not None:
                return None
            data = read_private(path, self.limit) if is_own_directory(folder) else None
            entry = None if data is None else _entry(self._secret, data)
        except FileNotFoundError:
            self._count("misses")
            return None
        except OSError:
            self._count("failures")
            return None
        payload = None if entry is None else _unpack(key, entry)
        self._count("hits" if payload is not None else "rejected")
        if payload is not None:
            with suppress(OSError):
                os.utime(path)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store ``payload`` under ``key``, in place of whatever is there."""
        if _HEADER.size + len(payload) + _SIGNATURE > self.limit:
            return
        try:
            make_private(self.directory)
            if self._refused is not None:
                return
            data = _signed(self._secret, _pack(key, payload))
            _write(self._path(key), data)
        except OSError:
            self._count("failures")
            return
        self._bound(len(data))

    def clear(self) -> int:
        """Remove every object of gradc's; the number removed."""
        removed = 0
        for path, _ in self._files():
            with suppress(OSError):
                path.unlink()
                removed += path.suffix == _SUFFIX
        with self._lock:
            self._known_bytes = 0
        return removed

    def stats(self) -> CacheStats:
        objects = [s.st_size for path, s in self._files() if path.suffix == _SUFFIX]
        refused = why_not_private(self.directory) if self.directory.exists() else None
        return replace(self._counts, files=len(objects), bytes=sum(objects), refused=refused)

    @cached_property
    def _refused(self) -> str | None:
        """Why the directory, which exists, cannot be trusted; a warning says so once.

        Asked once: where nobody else can change it, nobody else will.
        """
        refused = why_not_private(self.directory)
        if refused is not None:
            _warn(
                f"gradc's cache is off, and each process compiles anew: {refused}. "
                "Choose another directory with GRADC_CACHE_DIR, or GRADC_CACHE=0 to do without."
            )
        return refused

    @cached_property
    def _secret(self) -> bytes:
        """What entries are signed with: made by the first process that writes."""
        path = self.directory / _SECRET
        make_own(path.parent)
        for _ in range(2):
            with suppress(FileNotFoundError):
                secret = self._read_secret(path)
                if secret is not None:
                    return secret
                path.unlink()  # of another size, or not ours alone: no signature made with it is worth anything
            part = part_beside(path)
            try:
                create(part, os.urandom(_SECRET_BYTES), 0o600)
                with suppress(FileExistsError):
                    os.link(part, path)  # in one step, and not over another process's
            finally:
                with suppress(OSError):
                    part.unlink()
        secret = self._read_secret(path)
        if secret is None:
            raise PermissionError(f"{path} cannot be read back")
        return secret

    def _read_secret(self, path: Path) -> bytes | None:
        secret = read_private(path, _SECRET_BYTES)
        return secret if secret is not None and len(secret) == _SECRET_BYTES else None

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / (key[2:] + _SUFFIX)

    def _count(self, what: str, by: int = 1) -> None:
        with self._lock:
            self._counts = replace(self._counts, **{what: getattr(self._counts, what) + by})

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Our files and leftovers of interrupted writers, whatever else may lie in the directory."""
        for pattern in (f"??/*{_SUFFIX}", f"??/.*{_SUFFIX}.*{_PART}"):
            for path in self.directory.glob(pattern):
                with suppress(OSError):
                    status = os.lstat(path)
                    if is_own_directory(os.lstat(path.parent)) and _is_ours(path):
                        yield path, status

    def _bound(self, written: int) -> None:
        """Evict when the directory may have outgrown its limit; other processes' writes are seen at the next scan."""
        with self._lock:
            self._known_bytes += written
            self._writes_until_scan -= 1
            if self._writes_until_scan > 0 and self._known_bytes <= self.limit:
                return
            self._writes_until_scan = _WRITES_BETWEEN_SCANS
        kept, evicted = _evict(sorted(self._files(), key=lambda f: f[1].st_mtime), self.limit)
        self._count("evicted", evicted)
        with self._lock:
            self._known_bytes = kept


def _warn(text: str) -> None:
    """At the line of whoever called gradc; `gradc.places`, which does it for other rooms, is not known here."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, CacheWarning, stacklevel=level)


def _evict(files: list[tuple[Path, os.stat_result]], limit: int) -> tuple[int, int]:
    """Remove from the oldest on until nine tenths of the limit are left; (bytes kept, objects removed)."""
    kept, removed = sum(s.st_size for _, s in files), 0
    target = kept if kept <= limit else limit * 9 // 10
    stale = time.time() - _STALE_SECONDS
    for path, status in files:
        is_leftover = path.suffix == _PART and status.st_mtime < stale
        if kept <= target and not is_leftover:
            continue
        if path.suffix == _PART and not is_leftover:
            continue
        with suppress(OSError):
            path.unlink()
            kept, removed = kept - status.st_size, removed + 1
    return kept, removed


def _is_ours(path: Path) -> bool:
    """Whether a file is an entry, or what is left of one: it begins with the key that its name is made of."""
    named = _NAME.fullmatch(path.name)
    opened = open_private(path) if named else None
    if named is None or opened is None:
        return False
    with opened[0] as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return named["part"] is not None and _MAGIC.startswith(head[: len(_MAGIC)])
    magic, _, _, key = _HEADER.unpack(head)
    return bool(magic == _MAGIC and key.hex() == path.parent.name + named["key"])


def _pack(key: str, payload: bytes) -> bytes:
    return _HEADER.pack(_MAGIC, FORMAT_VERSION, len(payload), bytes.fromhex(key)) + payload


def _unpack(key: str, entry: bytes) -> bytes | None:
    payload = entry[_HEADER.size :]
    expected = _HEADER.pack(_MAGIC, FORMAT_VERSION, len(payload), bytes.fromhex(key))
    return payload if entry[: _HEADER.size] == expected else None


def _signed(secret: bytes, entry: bytes) -> bytes:
    return entry + hashlib.blake2b(entry, digest_size=_SIGNATURE, key=secret).digest()


def _entry(secret: bytes, data: bytes) -> bytes | None:
    """What was signed; None if it was not, or not with this secret."""
    entry = data[:-_SIGNATURE]
    return entry if compare_digest(_signed(secret, entry), data) else None


def _write(path: Path, data: bytes) -> None:
    make_own(path.parent)
    part = part_beside(path)
    try:
        create(part, data, 0o600)
        os.replace(part, path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def default_directory() -> Path | None:
    """GRADC_CACHE_DIR, or the platform's place for caches; None when GRADC_CACHE=0 or there is no home."""
    if os.environ.get("GRADC_CACHE") == "0":
        return None
    if given := os.environ.get("GRADC_CACHE_DIR"):
        return Path(given).expanduser().absolute()
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "gradc" / "Cache"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "gradc"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gradc"
    except RuntimeError:
        return None


def default_limit() -> int:
    """GRADC_CACHE_SIZE (bytes, or a number with K, M or G), or `DEFAULT_LIMIT`."""
    given = os.environ.get("GRADC_CACHE_SIZE", "").strip()
    if not given:
        return DEFAULT_LIMIT
    number, unit = (given[:-1], given[-1].upper()) if given[-1].upper() in _UNITS else (given, "")
    if not number.isdecimal():
        raise ValueError(f"GRADC_CACHE_SIZE={given!r}: expected bytes, or a number with K, M or G, such as 256M")
    return int(number) * _UNITS.get(unit, 1)


_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_caches: dict[tuple[Path, int], ObjectCache] = {}


def default() -> ObjectCache | None:
    """The cache that the environment names now, or None when it is switched off."""
    directory = default_directory()
    if directory is None:
        return None
    limit = default_limit()
    return _caches.setdefault((directory, limit), ObjectCache(directory, limit))


def stats() -> CacheStats:
    """`ObjectCache.stats` of the default cache."""
    cache = default()
    return cache.stats() if cache else CacheStats(None)


def clear() -> int:
    """`ObjectCache.clear` of the default cache."""
    cache = default()
    return cache.clear() if cache else 0
