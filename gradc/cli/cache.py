"""``gradc cache``: what the cache of compiled objects holds, and how to empty it."""

from __future__ import annotations

import json

from gradc.runtime import cache


def show_cache(clear: bool, as_json: bool) -> int:
    """Print what the disk holds, after removing it if ``clear``."""
    removed = cache.clear() if clear else 0
    stats = cache.stats()
    if as_json:
        facts = {"directory": str(stats.directory) if stats.directory else None, "files": stats.files,
                 "bytes": stats.bytes, "limit": stats.limit}  # fmt: skip
        print(json.dumps(facts | ({"removed": removed} if clear else {})))
        return 0
    if stats.directory is None:
        print("the cache is off: GRADC_CACHE=0, or there is no home directory")
        return 0
    if clear:
        print(f"removed {removed} file{'s' * (removed != 1)}")
    print(f"directory  {stats.directory}")
    print(f"files      {stats.files} (objects, and what is known of the graphs they come from)")
    print(f"size       {stats.bytes / 2**20:.1f} of at most {stats.limit / 2**20:.0f} MiB (GRADC_CACHE_SIZE)")
    return 0
