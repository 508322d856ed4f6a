"""Write a file whole or not at all: a temporary name beside it, fsync, rename."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bundle.errors import OutputError


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same suffix; on success it replaces `path`, on failure it goes.

    Raises:
        OutputError: the folder or file cannot be written (read-only, disk full); names `path`.
    """
    target = Path(path)
    # The suffix stays last: writers such as Pillow choose their format by it.
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.tmp{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error}); check free space and permissions") from error
    finally:
        with suppress(OSError):  # an unlink that fails must not hide why the write failed
            temporary.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all.

    Raises:
        OutputError: see `atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
