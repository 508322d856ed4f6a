"""MONAI Label's active-learning strategies: which slide to label next."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.strategy import Strategy

from .labels import PREDICTED
from .ranking import ORDERS, SlideScore, score
from .request_values import number

logger = logging.getLogger(__name__)

MODEL = "glomeruli"


class RankedSlides(Strategy):
    """The unlabelled slide that comes first in an order of `ranking.ORDERS`.

    Slides are ranked by the labels of tag "original", which batch inference leaves; those that have none of the present
    weights are segmented here, one after the other, until the time is used up.

    Args:
        order: name in `ORDERS`.
        infer: the app's `infer`, which saves a label.
        fingerprint: of the present weights.
    """

    def __init__(self, order: str, infer: Callable[..., Any], fingerprint: Callable[[], str]) -> None:
        super().__init__(f"Next slide by {order.replace('_', ' ')} of what the model finds")
        self.order = ORDERS[order]
        self.infer = infer
        self.fingerprint = fingerprint

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any] | None:
        """The slide as {"id", "score", "ranking", "not_ranked"}; `None` when all are labelled.

        Args:
            request: "budget_s": seconds to segment slides in, at least one is (60).
            datastore: MONAI Label's.

        Raises:
            EngineError: a slide cannot be segmented.
        """
        unlabelled = sorted(datastore.get_unlabeled_images())
        if not unlabelled:
            return None
        fingerprint = self.fingerprint()
        missing = [image for image in unlabelled if not _is_predicted(image, datastore, fingerprint)]
        end = time.monotonic() + number(request, "budget_s", 60, 0, 86_400)
        while missing:
            self._predict(missing.pop(0), datastore)
            if time.monotonic() > end:
                break
        ranked = self.order([_score(i, datastore) for i in unlabelled if i not in missing])
        logger.info("%d slides ranked, %d not yet segmented", len(ranked), len(missing))
        return {
            "id": ranked[0].image,
            "score": vars(ranked[0]),
            "ranking": [vars(slide) for slide in ranked],
            "not_ranked": missing,
        }

    def _predict(self, image: str, datastore: Any) -> None:
        self.infer({"model": MODEL, "image": image, "save_label": True, "label_tag": PREDICTED}, datastore)


def _is_predicted(image: str, datastore: Any, fingerprint: str) -> bool:
    info = datastore.get_label_info(image, PREDICTED)
    return info.get("params", {}).get("fingerprint") == fingerprint


def _score(image: str, datastore: Any) -> SlideScore:
    path = Path(datastore.get_label_uri(image, PREDICTED))
    return score(image, json.loads(path.read_text(encoding="utf-8")))
