"""What `python -m monai.bundle run` leaves to the bundle: one-line errors and a word on mistyped overrides."""

import difflib
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import fire
import yaml
from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY
from monai.utils import ensure_tuple

from bundle.errors import BundleError, ConfigError, reason_of

RUNNER_ARGUMENTS = frozenset(
    {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file", "help"}
)
"""Arguments of MONAI's own runner, which are no config ids."""

PLACES = frozenset({"config_file", "bundle_root", "slide", "output_dir"})
"""Settings that say where a run reads and writes, not what it does: the fingerprint of a config is without them."""


def begin_run(arguments: Sequence[str] | None = None) -> None:
    """First step of every config's `run`: report errors in one line, refuse overrides that no config knows.

    Args:
        arguments: the command line; `sys.argv` by default. Without `--config_file` in it (Python API) nothing is
            checked.

    Raises:
        ConfigError: see `check_overrides`.
    """
    sys.excepthook = _one_line
    check_overrides(sys.argv[1:] if arguments is None else arguments)


def check_config_files(arguments: Sequence[str]) -> None:
    """Refuse a command whose config files are not named, not there, or no YAML or JSON.

    Raises:
        ConfigError: names the file and what it might have been.
    """
    given = _options(arguments)
    files = _config_files(given)
    if files == ["True"] or (not files and not any("args_file" in argument for argument in arguments)):
        raise ConfigError("--config_file: missing; name a config, such as --config_file configs/inference.yaml")
    for file in files:
        if not Path(file).is_file():
            close = difflib.get_close_matches(file, map(str, Path(file).parent.glob("*.yaml")), 1)
            hint = f"did you mean {close[0]}?" if close else f"the path is seen from {Path.cwd()}"
            raise ConfigError(f"{file}: no such config file; {hint}")
        try:
            ConfigParser.load_config_file(file)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"{file}: neither YAML nor JSON ({reason_of(error)}); mend it") from error


def check_overrides(arguments: Sequence[str]) -> None:
    """Refuse an override such as `--devcie cpu`, which no config file defines, or `--progress off`, no True or False.

    MONAI would add the one silently and take the other, a text, for true.

    Raises:
        ConfigError: names the override and what it might have been.
    """
    given = _options(arguments)
    files = _config_files(given)
    if not files:
        return
    config = ConfigParser(ConfigParser.load_config_files(files))
    where = ", ".join(files)
    for name in sorted(given.keys() - RUNNER_ARGUMENTS):
        _check_exists(name, config, where)
        _check_kind(name, given[name], config.get(name), where)


def _check_exists(name: str, config: ConfigParser, where: str) -> None:
    """Every step of `a#b#c` exists; only a component's argument (beside `_target_`) may be new."""
    parent = config.get()
    steps = ReferenceResolver.normalize_id(name).split(ID_SEP_KEY)
    for step in steps:
        if not isinstance(parent, dict) or "_target_" in parent:
            return
        if step not in parent:
            close = difflib.get_close_matches(step, list(parent), 1)
            hint = f"; did you mean --{name.replace(step, close[0])}?" if close else ""
            raise ConfigError(f"--{name}: no such setting in {where}{hint}")
        parent = parent[step]


def _check_kind(name: str, value: object, default: object, where: str) -> None:
    """A number stays a number and a switch a switch; texts that are expressions or references are left alone."""
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        return
    if isinstance(default, bool):
        # Fire leaves `true` a text, which counts as true wherever a switch is read; so would `false`.
        good, wanted = isinstance(value, bool) or value == "true", "True or False"
    elif isinstance(default, int | float):
        good, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    else:
        return
    if not good:
        raise ConfigError(f"--{name} {value}: must be {wanted}, as in {where}")


def config_fingerprint(arguments: Sequence[str] | None = None) -> str | None:
    """SHA-256 of the config files and overrides of a command, `PLACES` left out; `None` when run from Python.

    Args:
        arguments: the command line; `sys.argv` by default.
    """
    options = _options(sys.argv[1:] if arguments is None else arguments)
    files = _config_files(options)
    if not files:
        return None
    overrides = {name: value for name, value in options.items() if name not in PLACES}
    text = json.dumps([ConfigParser.load_config_files(files), overrides], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _config_files(options: Mapping[str, Any]) -> list[str]:
    """The files in `--config_file a.yaml` or `--config_file "['a.yaml','b.yaml']"`."""
    return [str(file) for file in ensure_tuple(options.get("config_file", ()))]


def _options(arguments: Sequence[str]) -> dict[str, Any]:
    """Options and their values as MONAI's runner gets them, by Fire, which it uses too."""
    if not any("config_file" in argument for argument in arguments):
        return {}

    def options(*_: Any, **given: Any) -> dict[str, Any]:
        return given

    return dict(fire.Fire(options, command=list(arguments), serialize=lambda _: None))


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what the user can cure in one line; anything else is our bug and keeps its traceback."""
    message = user_message(error)
    if message is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"error: {message}", file=sys.stderr)


def user_message(error: BaseException) -> str | None:
    """What a user can cure, in one line, of an error and its causes; `None` for a bug of ours."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, BundleError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    # A data loader's worker hands its traceback over as text, whose last line is "bundle.errors.KIND: message".
    return " ".join(str(cause).rpartition(f"{type(cause).__name__}: ")[2].split())
