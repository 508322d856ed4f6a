"""Packages of the extra `findings`, imported where they are needed: scikit-learn, statsmodels, pyarrow.

They may be missing, and take long to import."""

import importlib
from typing import Any

from bundle.errors import ConfigError


def extra(module: str, purpose: str) -> Any:
    """A module of an optional package; `purpose`, in the plural, is what an error says needs it.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("sklearn", "scikit-learn")
        raise ConfigError(f"{purpose} need {package}; install it with `pip install -e '.[findings]'`") from error
