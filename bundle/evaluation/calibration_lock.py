"""The file in which calibration locks its thresholds: for one set of weights and settings, and not to be edited."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from bundle.atomic import write_text
from bundle.errors import ConfigError, WeightsError
from bundle.evaluation.triage import Thresholds
from bundle.hashing import file_sha256

FORMAT: Final = 1
SEAL: Final = "seal"
"""Hash of everything else in the file."""
_PLAIN: Final = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Lock:
    """What inference needs to know of a calibration.

    Attributes:
        weights_sha256: of the file whose network was calibrated.
        settings: of that network's inference; they must be the same when the thresholds are used.
        object_temperature: divides the logits of a glomerulus seen on its own.
        abstain_below: least confidence that is trusted; `None` trusts none.
        thresholds: of the score of global sclerosis.
    """

    weights_sha256: str
    settings: Mapping[str, Any]
    object_temperature: float
    abstain_below: float | None
    thresholds: Thresholds

    def check(self, path: Path | str, weights: Path | str, settings: Mapping[str, Any]) -> None:
        """Refuse to be used with other weights or settings.

        Args:
            path: the file it was read from, for the message.
            weights: file of the weights.
            settings: as `Lock.settings`.

        Raises:
            WeightsError: other weights, or none.
            ConfigError: a setting differs.
        """
        if file_sha256(weights) != self.weights_sha256:
            raise WeightsError(
                f"{path}: its thresholds are locked to other weights than {weights}; calibrate these with "
                f"configs/calibrate.yaml, or leave --triage out"
            )
        for name in sorted(self.settings.keys() | settings.keys()):
            locked, given = self.settings.get(name), settings.get(name)
            if locked != given and str(locked) != str(given):
                raise ConfigError(
                    f"{path}: its thresholds are locked to {name} {locked}, not {given}; give that, or calibrate anew"
                )


def write_lock(path: Path | str, lock: Lock, report: Mapping[str, Any]) -> None:
    """Write `lock` and what the calibration found (`report`) as JSON, sealed by a hash.

    Raises:
        OutputError: `path` cannot be written.
    """
    # Objects such as tiles are told by what they print; `asdict` would take them apart.
    settings = {name: value if isinstance(value, _PLAIN) else str(value) for name, value in lock.settings.items()}
    content = {"format": FORMAT, **asdict(replace(lock, settings=settings)), **report}
    text = json.dumps({**content, SEAL: _seal(content)}, indent=2, ensure_ascii=False)
    write_text(path, text + "\n")


def read_lock(path: Path | str) -> Lock:
    """Read a file of `write_lock`.

    Raises:
        ConfigError: it is missing, no calibration, of another version, or was changed since it was locked.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        seal, version = content.pop(SEAL), content["format"]
        lock = Lock(
            weights_sha256=content["weights_sha256"],
            settings=content["settings"],
            object_temperature=float(content["object_temperature"]),
            abstain_below=content["abstain_below"],
            thresholds=Thresholds(**content["thresholds"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: no calibration that can be read ({error}); configs/calibrate.yaml makes it"
        ) from error
    if version != FORMAT or seal != _seal(content):
        raise ConfigError(
            f"{path}: changed since it was locked, or of another version; run configs/calibrate.yaml again"
        )
    return lock


def _seal(content: Mapping[str, Any]) -> str:
    text = json.dumps({key: value for key, value in content.items() if key != SEAL}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
