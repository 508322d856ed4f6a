"""What is sure enough: each glomerulus's calibrated confidence, and whether global sclerosis is ruled in or out."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from bundle.classes import GLOBAL
from bundle.data.annotations import Annotation, Glomerulus
from bundle.evaluation.calibration import Sample
from bundle.evaluation.calibration_lock import Lock, read_lock
from bundle.slide import Slide
from bundle.stream.tile_logits import ObjectLogits

CONFIDENCE: Final = "Confidence"
SCORE: Final = "Global sclerosis"
"""Names of the measurements in GeoJSON."""


@dataclass(frozen=True)
class Triage:
    """Applies the locked thresholds of a calibration.

    Attributes:
        lock: the thresholds.
        look: gives the logits of each glomerulus, of the network without temperature.
    """

    lock: Lock
    look: ObjectLogits

    def __call__(self, slide: Slide, glomeruli: Annotation) -> Annotation:
        """The glomeruli with "triage" (rule_in, rule_out, review) and "abstain" (bool) among their properties.

        Two measurements, `CONFIDENCE` (calibrated probability of the class) and `SCORE`, say why. "metadata" repeats
        both properties, since QuPath shows no others.

        Raises:
            SlideReadError: a glomerulus's tile cannot be decoded.
        """
        if not glomeruli.glomeruli:
            return glomeruli
        logits = self.look(slide, glomeruli)
        probabilities = Sample(logits, np.zeros(len(logits), int)).probabilities(self.lock.object_temperature)
        judged = (self._judge(g, p) for g, p in zip(glomeruli.glomeruli, probabilities, strict=True))
        return replace(glomeruli, glomeruli=tuple(judged))

    def _judge(self, glomerulus: Glomerulus, probabilities: np.ndarray) -> Glomerulus:
        confidence, score = (float(probabilities[i]) for i in (glomerulus.label, GLOBAL.index))
        least = self.lock.abstain_below
        # "not >=": a confidence that is no number is not enough.
        abstain = least is None or not confidence >= least
        triage = self.lock.thresholds.decide(score)
        before = glomerulus.properties
        measurements = {**before.get("measurements", {}), **_numbers({CONFIDENCE: confidence, SCORE: score})}
        metadata = {**before.get("metadata", {}), "triage": triage, "abstain": str(abstain).lower()}
        found = {"measurements": measurements, "triage": triage, "abstain": abstain, "metadata": metadata}
        return replace(glomerulus, properties={**before, **found})


class TriageGlomerulid(MapTransform):
    """Dictionary transform: `Triage` of the glomeruli under `keys`; before the savers.

    Args:
        keys: the glomeruli's key.
        path: the calibration, from configs/calibrate.yaml.
        look: see `Triage`.
        weights: file of the network's weights.
        settings: of this inference, as the calibration has them.
        slide_key: key of the open slide.

    Raises:
        ConfigError: no such calibration, or one of other settings.
        WeightsError: the calibration is of other weights.
    """

    def __init__(
        self,
        keys: KeysCollection,
        path: Path | str,
        look: ObjectLogits,
        weights: Path | str,
        settings: Mapping[str, Any],
        slide_key: str = "image",
    ) -> None:
        super().__init__(keys)
        lock = read_lock(path)
        lock.check(path, weights, settings)
        self.triage = Triage(lock, look)
        self.slide_key = slide_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with judged glomeruli."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.triage(item[self.slide_key], item[key])
        return item


def _numbers(measurements: Mapping[str, float]) -> dict[str, float]:
    """Rounded; without what is no number, which JSON lacks."""
    return {name: round(value, 4) for name, value in measurements.items() if np.isfinite(value)}
