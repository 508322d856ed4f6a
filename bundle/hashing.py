"""Files told apart by their bytes."""

import hashlib
from pathlib import Path


def file_sha256(path: Path | str) -> str | None:
    """SHA-256 of a file's bytes; `None` for a folder (a DICOM slide)."""
    if not Path(path).is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
