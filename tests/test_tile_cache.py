"""The cache of decoded tiles: each is decoded by one thread, and memory is bounded."""

import threading

import numpy as np

from bundle.readers.tile_cache import CACHE_BYTES, TileCache

TILE = np.zeros((10, 10, 3), np.uint8)


def test_a_tile_that_two_threads_want_is_decoded_by_one() -> None:
    cache, started, finish, decoded, got = TileCache(), threading.Event(), threading.Event(), [], []

    def decode() -> np.ndarray:
        decoded.append(threading.get_ident())
        started.set()
        assert finish.wait(5)
        return TILE

    cache.reserve("slide", 1000)
    threads = [threading.Thread(target=lambda: got.append(cache.get(("slide", 1), decode))) for _ in range(4)]
    threads[0].start()
    assert started.wait(5)
    for thread in threads[1:]:
        thread.start()
    finish.set()
    for thread in threads:
        thread.join()
    assert len(decoded) == 1
    assert len(got) == 4
    assert all(tile is TILE for tile in got)


def test_everyone_who_waits_for_a_damaged_tile_gets_its_error() -> None:
    cache, started, finish, errors = TileCache(), threading.Event(), threading.Event(), []

    def decode() -> np.ndarray:
        started.set()
        assert finish.wait(5)
        raise OSError("damaged")

    def want() -> None:
        try:
            cache.get(("slide", 1), decode)
        except OSError as error:
            errors.append(str(error))

    cache.reserve("slide", 1000)
    threads = [threading.Thread(target=want) for _ in range(2)]
    threads[0].start()
    assert started.wait(5)
    threads[1].start()
    finish.set()
    for thread in threads:
        thread.join()
    assert errors == ["damaged"] * 2
    assert cache.get(("slide", 1), lambda: TILE) is TILE


def test_the_least_recently_used_tile_goes_first() -> None:
    cache, decoded = TileCache(), []

    def want(index: int) -> None:
        cache.get(("slide", index), lambda: decoded.append(index) or TILE)

    cache.reserve("slide", 3 * TILE.nbytes)
    for index in (1, 2, 3, 1, 4, 1, 2):
        want(index)
    assert decoded == [1, 2, 3, 4, 2]
    assert cache.bytes == 3 * TILE.nbytes


def test_slides_share_one_bound_and_give_back_what_they_needed() -> None:
    cache = TileCache(max_bytes=5 * TILE.nbytes)
    for owner in ("a", "b"):
        cache.reserve(owner, 4 * TILE.nbytes)
        for index in range(9):
            cache.get((owner, index), lambda: TILE)
    assert cache.bytes == 5 * TILE.nbytes
    cache.release("b")
    assert cache.bytes <= 4 * TILE.nbytes
    cache.release("a")
    assert cache.bytes == 0
    assert CACHE_BYTES < 200_000_000
