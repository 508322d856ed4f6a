"""From a datalist to a crop store, slide by slide: what `configs/entities.yaml` runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bundle.errors import BundleError, CohortError
from bundle.findings.entities import Entities
from bundle.findings.entities_source import EntitySource
from bundle.findings.slide_table import SlideTable
from bundle.findings.store_writer import SHARD_CROPS, CropWriter


@dataclass(frozen=True)
class EntityExtraction:
    """Writes every glomerulus of every slide into a crop store.

    Attributes:
        source: where slides and glomeruli come from.
        entities: makes their rows and crops.
        slides: makes the rows of slides.
        output_dir: of the store; one that is there is continued, slides that are in it are left out.
        shard_crops: crops of a shard file, which are held in memory.
        progress: shows a bar.
    """

    source: EntitySource
    entities: Entities
    slides: SlideTable
    output_dir: Path | str
    shard_crops: int = SHARD_CROPS
    progress: bool = True

    def run(self) -> None:
        """Attempt every slide, then write the tables.

        Raises:
            DatalistError: the datalist is malformed.
            ConfigError: the store in `output_dir` holds other crops, or a slide with another annotation; or pyarrow is
                not installed.
            OutputError: the store cannot be written, or another run writes to it.
            CohortError: slides failed; those that did not are in the store.
        """
        items = self.source.items()
        failures: list[str] = []
        cropper = None if self.source.geometry_only else self.entities.cropper
        with CropWriter(self.output_dir, cropper, self.shard_crops) as writer:
            for item in tqdm(items, desc="slides", disable=not self.progress):
                try:
                    source = self.source.fingerprint(item)
                except BundleError as error:
                    failures.append(str(error))
                    continue
                if not writer.has(item["key"], source):
                    failures += self._slide(item, source, writer)
        if failures:
            raise CohortError(f"{len(failures)} of {len(items)} slides failed: {'; '.join(failures)}")

    def _slide(self, item: Mapping[str, Any], source: str, writer: CropWriter) -> list[str]:
        """Write one slide; gives why it failed, or nothing."""
        try:
            with self.source.open(item) as slide:
                for row, crop in self.entities(slide):
                    writer.add(row, crop)
                summary = self.slides(slide, writer.rows)
        except BundleError as error:
            writer.drop_slide()
            return [str(error)]
        writer.finish_slide(item["key"], source, summary)
        return []
