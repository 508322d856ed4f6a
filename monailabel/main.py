"""The MONAI Label app of this bundle; docs/serve.md says how it is started.

MONAI Label loads this file and makes the app. It answers every request for polygons by the bundle's own streaming
inference, in a process of the bundle's environment: MONAI Label would cut a request into tiles without overlap and join
nothing across them.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.config import settings as server
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.utils.others.pathology import create_asap_annotations_xml, create_dsa_annotations_json

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for bundle.classes, which needs no package

from lib.answers import wsi_answer
from lib.datastore import SlideDatastore
from lib.engine_process import Engine, EngineError
from lib.inference import SegmentGlomeruli
from lib.ranking import ORDERS
from lib.request_values import RequestError
from lib.segmentation import Segmenter, copy_for_client
from lib.settings import read_settings
from lib.strategy import MODEL, RankedSlides
from lib.training import TrainGlomeruli


class BatchGlomeruli(BatchInferTask):
    """Batch inference without MONAI Label's choice of GPU, by which it fails where there is none."""

    def __call__(self, request: dict[str, Any], datastore: Any, infer: Any) -> Any:
        """Segment the slides that `request` means, and save what is found."""
        return super().__call__({**request, "multi_gpu": False}, datastore, infer)


class GlomeruliApp(MONAILabelApp):
    """Glomeruli in slides: regions, whole slides, few-shot, training and what to label next.

    Args:
        app_dir: this folder.
        studies: folder of slides.
        conf: see `lib.settings`.

    Raises:
        SettingsError: see `read_settings`.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.settings = read_settings(app_dir, studies, conf)
        log = self.settings.work_dir / "engine.log"
        self.engine = Engine(self.settings.bundle_python, self.settings.root, self.settings.app_dir, log)
        super().__init__(
            app_dir,
            studies,
            conf,
            name="Glomeruli",
            description="Normal, segmentally and globally sclerotic glomeruli in slides of kidney biopsies",
        )

    def init_datastore(self) -> SlideDatastore:
        """The local folder of slides."""
        options = {
            "auto_reload": server.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            "read_only": server.MONAI_LABEL_DATASTORE_READ_ONLY,
        }
        return SlideDatastore(self.studies, **options)

    def init_infers(self) -> dict[str, SegmentGlomeruli]:
        """The models of `--conf models`."""
        self.segmenter = Segmenter(self.settings, self.engine, self.datastore())
        return {name: SegmentGlomeruli(name, self.segmenter) for name in self.settings.models}

    def init_trainers(self) -> dict[str, TrainGlomeruli]:
        """Of `glomeruli`; SegGPT learns from its prompts alone."""
        return {MODEL: TrainGlomeruli(self.settings)} if MODEL in self.settings.models else {}

    def init_strategies(self) -> dict[str, Any]:
        """MONAI Label's random one, and ours."""
        ours = {
            name: RankedSlides(name, super(GlomeruliApp, self).infer, lambda: self.segmenter.fingerprint(MODEL))
            for name in ORDERS
        }
        return {**super().init_strategies(), **(ours if MODEL in self.settings.models else {})}

    def init_batch_infer(self) -> BatchGlomeruli:
        """See `BatchGlomeruli`."""
        return BatchGlomeruli()

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """A whole slide, see `SegmentGlomeruli`."""
        with _told_to_the_client():
            self._slide(request["image"], datastore)
            return dict(super().infer(request, datastore))

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """The next slide to label, see `RankedSlides`."""
        with _told_to_the_client():
            return dict(super().next_sample(request))

    def infer_wsi(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """A region, or with "size" [0, 0] the whole slide, in one piece: "output" asap, dsa, json or geojson."""
        start = time.monotonic()
        name = request.get("model")
        if name not in self._infers:
            raise HTTPException(404, f"no model {name!r}; served are {', '.join(self._infers)}")
        task = self._infers[name]
        with _told_to_the_client():
            slide = self._slide(request["image"], datastore)
            if min(request.get("size") or [0]) <= 0:
                collection = self.segmenter.whole_slide(name, slide, request)
            else:
                collection = self.segmenter.region(name, slide, request)
        answer = wsi_answer(collection, name, task.description, request, time.monotonic() - start)
        file: str | None = None
        if request.get("output") == "asap":
            file, _ = create_asap_annotations_xml(answer)
        elif request.get("output") == "dsa":
            file, _ = create_dsa_annotations_json(answer)
        elif request.get("output") == "geojson":
            file = str(copy_for_client(collection))
        return {"file": file, "params": answer}

    def _slide(self, image: str, datastore: Any) -> Path:
        """The file of a slide's id, or of a path."""
        path = (datastore or self.datastore()).get_image_uri(image) or image
        if not path or not Path(path).exists():
            raise HTTPException(404, f"no slide {image!r} in {self.studies}")
        return Path(path)


@contextmanager
def _told_to_the_client() -> Iterator[None]:
    """What the client can cure is told in the answer's detail, not only in the log."""
    try:
        yield
    except (EngineError, RequestError) as error:
        raise HTTPException(422, str(error)) from error
