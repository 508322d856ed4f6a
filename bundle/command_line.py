"""What `python -m monai.bundle run` leaves to the bundle: one-line errors and a word on mistyped overrides."""

import difflib
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple

from bundle.errors import BundleError, ConfigError

RUNNER_ARGUMENTS = frozenset(
    {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file", "help"}
)
"""Arguments of MONAI's own runner, which are no config ids."""


def begin_run(arguments: Sequence[str] | None = None) -> None:
    """First step of every config's `run`: report errors in one line, refuse overrides that no config knows.

    Args:
        arguments: the command line; `sys.argv` by default. Without `--config_file` in it (Python API) nothing is
            checked.

    Raises:
        ConfigError: an override's top-level id is not in the config files.
    """
    sys.excepthook = _one_line
    check_overrides(sys.argv[1:] if arguments is None else arguments)


def check_overrides(arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for an override such as `--devcie` whose top-level id no config file defines.

    MONAI adds unknown top-level ids silently; an unknown nested id is its own `KeyError`.
    """
    given = _options(arguments)
    files = _config_files(given)
    if not files:
        return
    known = set(ConfigParser.load_config_files(files)) | RUNNER_ARGUMENTS
    for name in given:
        top = re.split(r"#|::", name)[0]
        if top not in known:
            close = difflib.get_close_matches(top, known, 1)
            hint = f"; did you mean --{close[0]}?" if close else ""
            raise ConfigError(f"--{name}: no such setting in {', '.join(files)}{hint}")


def config_fingerprint() -> str | None:
    """SHA-256 of the config files and overrides of this command; `None` when run from Python."""
    options = _options(sys.argv[1:])
    files = _config_files(options)
    if not files:
        return None
    overrides = {name: value for name, value in options.items() if name != "config_file"}
    text = json.dumps([ConfigParser.load_config_files(files), overrides], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _config_files(options: Mapping[str, str]) -> list[str]:
    """The files in `--config_file a.yaml` or `--config_file "['a.yaml','b.yaml']"`, read as MONAI's runner does."""
    if "config_file" not in options:
        return []
    return [str(file) for file in ensure_tuple(DefaultParseValue(options["config_file"]))]


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """Options and their values, written as `--name value` or `--name=value`."""
    options: dict[str, str] = {}
    name = None
    for argument in arguments:
        if argument.startswith("--") and len(argument) > 2:
            name, _, value = argument[2:].partition("=")
            options[name] = value
        elif name is not None:
            options[name] = f"{options[name]} {argument}".strip()
    return options


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what the user can cure in one line; anything else is our bug and keeps its traceback."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, BundleError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {' '.join(str(cause).split())}", file=sys.stderr)
