"""Object files on disk, so that the second process does not compile what the first one did.

Enters: a key (hexadecimal SHA-256) and bytes.  Leaves: the same bytes, or nothing.
Invariant: what `get` returns is byte for byte what `put` was given under that key.  A file that is torn, damaged,
renamed, from another format or owned by another user is no hit; it is overwritten by the next `put`.  A disk that
cannot be read or written costs time, never a result.  Start reading at `ObjectCache`.

Layout: ``DIRECTORY/ab/cdef….obj``.  Writers use a temporary file and `os.replace`, so readers need no lock.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

FORMAT_VERSION = 1
DEFAULT_LIMIT = 512 * 2**20

#: magic, format version, payload length, key, SHA-256 of the payload
_HEADER = struct.Struct("<8sIQ32s32s")
_MAGIC = b"gradcobj"
_SUFFIX, _PART = ".obj", ".part"
_STALE_SECONDS = 3600.0
_WRITES_BETWEEN_SCANS = 64


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What the disk holds, and what this process did with it. ``bytes`` and ``limit`` in bytes."""

    directory: Path | None
    files: int = 0
    bytes: int = 0
    limit: int = DEFAULT_LIMIT
    hits: int = 0
    misses: int = 0
    rejected: int = 0
    evicted: int = 0
    failures: int = 0


class ObjectCache:
    """A directory of objects, bounded by evicting the least recently used. Safe across threads and processes."""

    def __init__(self, directory: Path, limit: int = DEFAULT_LIMIT):
        self.directory, self.limit = directory, limit
        self._lock = threading.Lock()
        self._counts = CacheStats(directory, limit=limit)
        self._known_bytes = 0
        self._writes_until_scan = 0

    def get(self, key: str) -> bytes | None:
        """The bytes stored under ``key``, or None. A hit makes the file the most recently used."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                trusted = _is_trusted(os.fstat(file.fileno()))
                data = file.read()
        except FileNotFoundError:
            self._count("misses")
            return None
        except OSError:
            self._count("failures")
            return None
        payload = _unpack(key, data) if trusted else None
        self._count("hits" if payload is not None else "rejected")
        if payload is not None:
            with suppress(OSError):
                os.utime(path)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store ``payload`` under ``key``, in place of whatever is there."""
        data = _pack(key, payload)
        if len(data) > self.limit:
            return
        try:
            _write(self._path(key), data)
        except OSError:
            self._count("failures")
            return
        self._bound(len(data))

    def clear(self) -> int:
        """Remove every object; the number removed."""
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
        return replace(self._counts, files=len(objects), bytes=sum(objects))

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / (key[2:] + _SUFFIX)

    def _count(self, what: str, by: int = 1) -> None:
        with self._lock:
            self._counts = replace(self._counts, **{what: getattr(self._counts, what) + by})

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Our files and leftovers of interrupted writers, whatever else may lie in the directory."""
        for pattern in (f"??/*{_SUFFIX}", f"??/*{_PART}"):
            for path in self.directory.glob(pattern):
                with suppress(OSError):
                    yield path, path.stat()

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


def _is_trusted(status: os.stat_result) -> bool:
    """Machine code is run only when this user or the superuser wrote it."""
    return not hasattr(os, "getuid") or status.st_uid in (os.getuid(), 0)


def _pack(key: str, payload: bytes) -> bytes:
    digest = hashlib.sha256(payload).digest()
    return _HEADER.pack(_MAGIC, FORMAT_VERSION, len(payload), bytes.fromhex(key), digest) + payload


def _unpack(key: str, data: bytes) -> bytes | None:
    if len(data) < _HEADER.size:
        return None
    magic, version, length, stored_key, digest = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :]
    if (magic, version, length) != (_MAGIC, FORMAT_VERSION, len(payload)) or stored_key != bytes.fromhex(key):
        return None
    return payload if hashlib.sha256(payload).digest() == digest else None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(suffix=_PART, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


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
