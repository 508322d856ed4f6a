"""MONAI Label's inference task: a whole slide to GeoJSON."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from bundle.classes import CLASS_NAMES, GLOMERULUS_CLASSES

from .answers import annotation_of, count_by_class
from .models import model_of
from .segmentation import Segmenter, copy_for_client


class SegmentGlomeruli(InferTask):
    """A model of the server, as MONAI Label lists it; it is listed also while its weights are missing.

    Args:
        name: of the model.
        segmenter: does the work.
    """

    def __init__(self, name: str, segmenter: Segmenter) -> None:
        model = model_of(name, segmenter.settings)
        super().__init__(
            type=InferType.SEGMENTATION,
            labels={class_name: index for index, class_name in enumerate(CLASS_NAMES, start=1)},
            dimension=2,
            description=model.description,
            config={
                "margin_um": model.margin_um,
                "label_colors": {c.name: list(c.rgb) for c in GLOMERULUS_CLASSES},
                **({"prompts": 12} if model.few_shot else {}),
            },
        )
        self.name = name
        self.segmenter = segmenter

    def is_valid(self) -> bool:
        """Always: a missing file is told when the model is asked."""
        return True

    def info(self) -> dict[str, Any]:
        """Also that this is of slides, which QuPath's and DSA's clients look for."""
        return {**super().info(), "pathology": True}

    def __call__(self, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Segment the whole slide `request["image"]`: a GeoJSON file for the client, and counts.

        Raises:
            RequestError: a number makes no sense.
            EngineError: the bundle refused.
        """
        start = time.monotonic()
        collection = self.segmenter.whole_slide(self.name, Path(request["image"]), request)
        answer = {
            "label_names": self.labels,
            "glomeruli": count_by_class(collection),
            "fingerprint": collection["fingerprint"],
            "latencies": {"total": round(time.monotonic() - start, 2)},
        }
        if request.get("result_write_to_file") is False:
            answer["annotation"] = annotation_of(collection, (0, 0), (0, 0))
            return None, answer
        return str(copy_for_client(collection)), answer
