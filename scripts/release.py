"""Build the model zoo's archive from the checkout: a selection of tracked files, byte for byte as they are.

Examples:
    python scripts/release.py --output_dir dist
    python scripts/release.py --output_dir dist --large_files_url https://example.org/weights

Leaves pathology_glomeruli_segmentation_v<version>.zip, equal bytes for equal files, and beside it a list of SHA-256,
which `sha256sum --check` reads once the archive is unpacked there. Check the archive with scripts/verify_bundle.py.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from bundle.atomic import atomic_path, write_text
from bundle.errors import BundleError, ConfigError

NAME = "pathology_glomeruli_segmentation"
SELECTED = (
    "LICENSE", "README.md", "constraints.txt", "pyproject.toml", "bundle/", "configs/", "docs/", "models/",
    "monailabel/", "scripts/",
)  # fmt: skip
"""Tracked files that the zoo gets; tests and what concerns the repository alone stay behind."""
MAX_BYTES = 25_000_000
"""Of one file in the zoo, which takes larger ones by URL (its CONTRIBUTING.md)."""
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""The earliest that ZIP knows: a checkout's own times would make every build another file."""
VERSION = re.compile(r"\d+\.\d+\.\d+")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        root = options.root.resolve()
        version = read_version(root)
        files = select_files(root, options.allow_changes)
        small, large = split_by_size(root, files)
        contents = {path: (root / path).read_bytes() for path in small}
        if large:
            contents["large_files.yml"] = large_files_list(root, large, options.large_files_url)
        archive = options.output_dir / f"{NAME}_v{version}.zip"
        executables = {path for path in small if (root / path).stat().st_mode & 0o100}
        write_archive(archive, contents, executables)
        sums = write_sums(archive, contents)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{len(contents)} files, {archive.stat().st_size / 1e6:.1f} MB; not in it, by URL: {', '.join(large) or 'none'}"
    )
    print(f"written: {archive}\nwritten: {sums}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("dist"), help="folder of the archive, default dist")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the checkout, default this one")
    parser.add_argument("--large_files_url", help=f"folder of the files over {MAX_BYTES / 1e6:.0f} MB on the web")
    parser.add_argument("--allow_changes", action="store_true", help="pack tracked files with uncommitted changes too")
    return parser


def read_version(root: Path) -> str:
    """The version in configs/metadata.json, which is in its changelog and is the package's.

    Raises:
        ConfigError: it is in no such form, has no entry, or is not the package's; names the file to mend.
    """
    file = root / "configs" / "metadata.json"
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); the checkout must be a bundle's") from error
    version = str(metadata.get("version"))
    if not VERSION.fullmatch(version):
        raise ConfigError(f"{file}: version must be three numbers such as 0.1.0, not {version}")
    if not metadata.get("changelog", {}).get(version):
        raise ConfigError(f"{file}: changelog says nothing of version {version}; add an entry for it")
    package = root / "bundle" / "__init__.py"
    if f'__version__ = "{version}"' not in package.read_text(encoding="utf-8"):
        raise ConfigError(f"{package}: __version__ is not {version}, as in {file}; make them one")
    return version


def select_files(root: Path, allow_changes: bool = False) -> list[str]:
    """Paths below `root` of the tracked files of `SELECTED`, sorted.

    Raises:
        ConfigError: `root` is no git checkout, or has changes that are not committed and not allowed.
    """
    files = sorted(path for path in _git(root, "ls-files", "-z").split("\0") if path.startswith(SELECTED))
    if not files:
        raise ConfigError(f"{root}: no tracked files of a bundle; run it in the project's git checkout")
    missing = [path for path in files if not (root / path).is_file()]
    if missing:
        raise ConfigError(f"{root / missing[0]}: tracked but not there; git restore it, or commit that it is gone")
    changed = _git(root, "diff", "--name-only", "-z", "HEAD", "--", *files).strip("\0")
    if changed and not allow_changes:
        names = changed.replace("\0", ", ")
        raise ConfigError(f"{root}: not committed: {names}; commit first, or pass --allow_changes")
    return files


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)
    except FileNotFoundError as error:
        raise ConfigError("git is not installed, and says which files are the bundle's; install it") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"{root}: git {arguments[0]} failed ({(reason or [''])[-1]})") from error
    return done.stdout.decode()


def split_by_size(root: Path, files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files that may lie in the zoo, and those of more than `MAX_BYTES` that it takes by URL."""
    large = [path for path in files if (root / path).stat().st_size > MAX_BYTES]
    return [path for path in files if path not in large], large


def large_files_list(root: Path, large: Sequence[str], url: str | None) -> bytes:
    """`large_files.yml` as the zoo reads it: path, url and hash of each file.

    Raises:
        ConfigError: no URL is known.
    """
    if not url:
        raise ConfigError(f"{large[0]}: over {MAX_BYTES / 1e6:.0f} MB; upload it and pass --large_files_url FOLDER_URL")
    entries = [
        {
            "path": path,
            "url": f"{url.rstrip('/')}/{Path(path).name}",
            "hash_val": hashlib.sha256((root / path).read_bytes()).hexdigest(),
            "hash_type": "sha256",
        }
        for path in large
    ]
    return yaml.safe_dump({"large_files": entries}, sort_keys=False).encode()


def write_archive(path: Path, contents: Mapping[str, bytes], executables: set[str]) -> None:
    """Write a ZIP with everything below the folder `NAME`, the same bytes whenever and wherever it is made.

    Raises:
        OutputError: `path` cannot be written.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(f"{NAME}/{name}", TIMESTAMP)
            entry.create_system = 3  # Unix, or the modes mean nothing
            entry.external_attr = (0o100755 if name in executables else 0o100644) << 16
            archive.writestr(entry, contents[name], zipfile.ZIP_DEFLATED, compresslevel=9)


def write_sums(archive: Path, contents: Mapping[str, bytes]) -> Path:
    """Write the SHA-256 of the archive and of every file in it beside it, in the form of sha256sum.

    Raises:
        OutputError: they cannot be written.
    """
    lines = [f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}"]
    lines += [f"{hashlib.sha256(contents[name]).hexdigest()}  {NAME}/{name}" for name in sorted(contents)]
    path = archive.with_suffix(".sha256")
    write_text(path, "\n".join(lines) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
