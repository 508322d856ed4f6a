"""The exceptions that a user of the bundle can cause and cure.

Every one derives from `BundleError`; its message is one line that tells which file, what is wrong and what to do.
"""


class BundleError(Exception):
    """Base of all errors that the bundle raises on bad input."""


class SlideReadError(BundleError):
    """A slide is missing, empty, truncated or in no format that can be read."""


class UnknownResolutionError(BundleError):
    """A slide states no micrometres per pixel and none was given."""


class AnnotationError(BundleError):
    """An annotation file cannot be read or does not fit its slide."""


class UnknownClassError(AnnotationError):
    """An annotation names a class that the class table does not map."""


class DatalistError(BundleError):
    """A datalist is malformed, or puts one patient into two splits."""


class WeightsError(BundleError):
    """A weight file is missing, unsafe or of another network."""


class ConfigError(BundleError):
    """A config or one of its overrides cannot be meant as written."""


class OutputError(BundleError):
    """An output cannot be written."""


class PromptError(BundleError):
    """A prompt set for few-shot segmentation is malformed, or a prompt in it cannot be made."""


class CellError(BundleError):
    """A step of the study failed, or cannot be run."""


class CohortError(BundleError):
    """A list of slides cannot be run as a cohort, or some of its slides failed."""


class BackendError(ConfigError):
    """A backend cannot run this network here; another can."""


class FindingsError(BundleError):
    """A table of glomeruli or of patients is malformed, or the two do not fit each other."""


def reason_of(error: BaseException) -> str:
    """What a library says went wrong, on one line: at most 300 characters, for some print a whole file."""
    return " ".join(str(error).split())[:300] or type(error).__name__
