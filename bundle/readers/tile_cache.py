"""Decoded tiles, kept for the reads that overlap: bounded in bytes, shared by the slides that a process has open.

One cache per process and not per slide: training keeps 64 slides open in each of its workers.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from functools import lru_cache

from bundle.readers.base import Pixels

CACHE_BYTES = 192_000_000
"""Most that a process keeps. A row of 320 px tiles at 3.2 level-0 px per px needs 154 MB of a slide 100,000 px wide."""

Key = tuple[Hashable, ...]
"""(owner, ...): who asked for the tile, and which of its tiles it is."""


class TileCache:
    """The least recently used tiles go first. Safe for threads: what two want is decoded by one, awaited by the other.

    It grows no larger than its owners say that they need, so a small slide takes little memory.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES):
        """`max_bytes`: the bound, whatever the owners ask for; `bytes` are held now."""
        self.max_bytes = max_bytes
        self.bytes = 0
        # Reentrant: the garbage collector may close a slide, and so call `release`, while this thread holds it.
        self._lock = threading.RLock()
        self._needs: dict[Hashable, int] = {}
        self._capacity = 0
        self._tiles: OrderedDict[Key, Pixels] = OrderedDict()
        self._pending: dict[Key, Future[Pixels]] = {}

    def reserve(self, owner: Hashable, need_bytes: int) -> None:
        """Let the cache hold `need_bytes` for `owner`, or as many as it already asked for if that is more."""
        if need_bytes <= self._needs.get(owner, -1):
            return
        with self._lock:
            self._needs[owner] = max(need_bytes, self._needs.get(owner, 0))
            self._capacity = min(sum(self._needs.values()), self.max_bytes)

    def release(self, owner: Hashable) -> None:
        """Forget the tiles of `owner` and what it needed."""
        with self._lock:
            self._needs.pop(owner, None)
            self._capacity = min(sum(self._needs.values()), self.max_bytes)
            for key in [key for key in self._tiles if key[0] == owner]:
                tile = self._tiles.pop(key)
                self.bytes -= tile.nbytes

    def get(self, key: Key, decode: Callable[[], Pixels]) -> Pixels:
        """The tile of `key`, by `decode` if it is not held; whatever `decode` raises, everyone who waits gets.

        The array is shared: it must not be written to.
        """
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
                return tile
            pending = self._pending.get(key)
            mine = pending is None
            if pending is None:
                pending = self._pending[key] = Future()
        return self._decode(key, decode, pending) if mine else pending.result()

    def _decode(self, key: Key, decode: Callable[[], Pixels], pending: "Future[Pixels]") -> Pixels:
        try:
            tile = decode()
        except BaseException as error:
            with self._lock:
                del self._pending[key]
            pending.set_exception(error)
            raise
        with self._lock:
            del self._pending[key]
            # Not after its release: nobody would ever ask for it again.
            if key[0] in self._needs:
                self._tiles[key] = tile
                self.bytes += tile.nbytes
            while self.bytes > self._capacity:
                _, oldest = self._tiles.popitem(last=False)
                self.bytes -= oldest.nbytes
        pending.set_result(tile)
        return tile


def process_cache() -> TileCache:
    """The cache of this process; a forked child gets its own, as a lock may have been held at the fork."""
    return _cache_of(os.getpid())


@lru_cache(maxsize=1)
def _cache_of(pid: int) -> TileCache:
    return TileCache()
