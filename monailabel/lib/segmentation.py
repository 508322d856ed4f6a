"""Segment a slide or region by the engine: the one way that every endpoint takes."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .engine_process import Engine
from .labels import labelled_rows
from .models import Model, model_of
from .request_values import number, whole_numbers
from .settings import Settings


class Segmenter:
    """Answers requests for polygons.

    Args:
        settings: of the server.
        engine: does the work.
        datastore: MONAI Label's, whose labels are SegGPT's prompts.
    """

    def __init__(self, settings: Settings, engine: Engine, datastore: Any) -> None:
        self.settings = settings
        self.engine = engine
        self.datastore = datastore

    def region(self, name: str, slide: Path, request: Mapping[str, Any]) -> dict[str, Any]:
        """GeoJSON of the glomeruli of a request's region.

        Args:
            name: of the model.
            slide: file.
            request: "location", "size", "level", "margin_um", "mpp", "prompts"; of "size" 0 the whole slide, which then
                leaves no other outputs.

        Raises:
            RequestError: a number makes no sense.
            EngineError: the bundle refused.
        """
        model = model_of(name, self.settings)
        place = {
            "location": whole_numbers(request, "location", 2),
            "size": whole_numbers(request, "size", 2),
            "level": int(number(request, "level", 0, 0, 100)),
            "margin_um": number(request, "margin_um", model.margin_um, 0, 10_000),
        }
        with tempfile.TemporaryDirectory(prefix="glomeruli-") as folder:
            return self._segment(model, slide, request, Path(folder), place)

    def whole_slide(self, name: str, slide: Path, request: Mapping[str, Any]) -> dict[str, Any]:
        """GeoJSON of a whole slide; its mask, polygons, overlay and summary are kept.

        Raises:
            RequestError: a number makes no sense.
            EngineError: the bundle refused.
        """
        folder = self.settings.work_dir / "predictions" / name / slide.stem
        return self._segment(model_of(name, self.settings), slide, request, folder, {})

    def fingerprint(self, name: str) -> str:
        """Of a model's config and weights, as its results hold it.

        Raises:
            EngineError: the bundle refused.
        """
        model = model_of(name, self.settings)
        job = {"config_files": model.config_files, "overrides": model.overrides}
        return str(self.engine.ask("fingerprint", **job)["fingerprint"])

    def _segment(
        self, model: Model, slide: Path, request: Mapping[str, Any], folder: Path, place: Mapping[str, Any]
    ) -> dict[str, Any]:
        mpp = number(request, "mpp", 0, 0, 1000) or self.settings.mpp
        overrides = {**model.overrides, **(self._prompts(model, request) if model.few_shot else {})}
        result = self.engine.ask(
            "segment",
            slide=str(slide),
            output_dir=str(folder),
            config_files=model.config_files,
            overrides=overrides,
            mpp=mpp,
            **place,
        )
        collection = json.loads(Path(result["glomeruli"]).read_text(encoding="utf-8"))
        return {**collection, "fingerprint": result["fingerprint"]}

    def _prompts(self, model: Model, request: Mapping[str, Any]) -> dict[str, Any]:
        result = self.engine.ask(
            "prompts",
            rows=labelled_rows(self.datastore, self.settings),
            count=int(number(request, "prompts", 12, 1, 100)),
            config_files=model.config_files,
            overrides=model.overrides,
            path=str(self.settings.work_dir / "prompts.yaml"),
        )
        return {"prompt_set": result["prompt_set"]}


def copy_for_client(collection: Mapping[str, Any]) -> Path:
    """A GeoJSON file of a result, which MONAI Label deletes after it has sent it."""
    with tempfile.NamedTemporaryFile("w", suffix=".geojson", delete=False, encoding="utf-8") as file:
        json.dump({"type": collection["type"], "features": collection["features"]}, file)
    return Path(file.name)
