"""A phantom cohort with the structure of the study's data (Souza et al., BMC Nephrology 2025, 26:544, section Data).

    set        stain  split                  slides    patients       glomeruli
    Normal     HE     training+valid., test  9+3, 3    N1-N3+N4, N5   194, 27 normal
               PAS    training+valid., test  9+3, 3    N1-N3+N4, N5   149, 61 normal
               PAMS   training+valid., test  9+3, 3    N1-N3+N4, N5   133, 77 normal
    Sclerosis  HE     test                   19        S01-S19        48 segmental, 23 global
               PAS    test                   18        S01-S04, S20-  56 segmental, 20 global
    Mixed      HE     training               1         M1             6 of each class; crops of 4 of each are the items

As in the study: slides, patients and glomeruli by stain, class and test split, and the two magnifications: Normal at
40x (0.25 µm/px), Sclerosis and Mixed at 20x (0.5 µm/px). Where the study is silent: patient N4 of its four training
patients is the validation, which chooses the best epoch; no normal glomerulus is on a Sclerosis slide; Mixed is
validated on N4 too, so that the usual training runs.

Scaled: `scale` makes every pixel coarser and leaves all lengths in µm as they are, so that the two magnifications stay
apart by two. The glass of a slide is smaller: 3.6 x 1.8 mm in Normal and 4.0 x 2.2 mm elsewhere, where the study's
means are 5.7 x 2.8 and 13.9 x 7.5 mm; glomeruli lie denser. `slides` takes that share of slides and glomeruli; Mixed
stays as it is. Two stains of a patient are two pieces of kidney, not two sections of one.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final

from bundle import __version__
from bundle.atomic import atomic_path
from bundle.data.crops import glomerulus_crops
from bundle.data.datalist import DatalistItem, write_datalist
from bundle.data.preparation import with_classes
from bundle.errors import ConfigError
from bundle.geometry import Size
from bundle.phantom.phantom import Phantom
from bundle.phantom.spec import PhantomSpec, Stain
from bundle.phantom.writer import write_phantom

SEEDS_PER_COHORT: Final = 1000
"""Cohorts of neighbouring seeds share no slide."""
MPP_40X: Final = 0.25
MPP_20X: Final = 0.5
NORMAL_SIZE_UM: Final = (3600, 1800)
"""With less, the 26 glomeruli of a PAMS test slide do not fit for every seed."""
SCLEROSIS_SIZE_UM: Final = (4000, 2200)

NORMAL_PATIENTS: Final[Mapping[str, Sequence[str]]] = {
    "training": ("N1", "N2", "N3"),
    "validation": ("N4",),
    "test": ("N5",),
}
SLIDES_PER_PATIENT: Final = 3
"""Of each stain, in Normal."""
NORMAL_GLOMERULI: Final[Mapping[Stain, tuple[int, int]]] = {"HE": (194, 27), "PAS": (149, 61), "PAMS": (133, 77)}
"""The study's training (our training and validation) and test."""

SCLEROSIS_SLIDES: Final[Mapping[Stain, int]] = {"HE": 19, "PAS": 18}
SCLEROSIS_GLOMERULI: Final[Mapping[Stain, tuple[int, int]]] = {"HE": (48, 23), "PAS": (56, 20)}
"""Segmental and global."""
SCLEROSIS_PATIENTS_WITH_BOTH: Final = 4

MIXED_GLOMERULI_PER_CLASS: Final = 6
MIXED_CROPS_PER_CLASS: Final = 4


@dataclass(frozen=True)
class PlannedSlide:
    """A slide to be painted: `name` is its path in the cohort's folder without suffix, such as "normal/HE_N1_1"."""

    name: str
    patient: str
    split: str
    spec: PhantomSpec

    def item(self, folder: Path) -> DatalistItem:
        """The slide as a datalist has it, in the cohort's `folder`."""
        image = folder / f"{self.name}.tif"
        return DatalistItem(image, self.patient, self.spec.stain, label=image.with_suffix(".geojson"))


@dataclass(frozen=True)
class StudyPlan:
    """All slides of the cohort, by the study's sets."""

    normal: tuple[PlannedSlide, ...]
    sclerosis: tuple[PlannedSlide, ...]
    mixed: PlannedSlide

    @property
    def slides(self) -> tuple[PlannedSlide, ...]:
        """All of them."""
        return (*self.normal, *self.sclerosis, self.mixed)


def plan_study(seed: int = 0, scale: float = 4.0, slides: float = 1.0) -> StudyPlan:
    """The slides of the cohort, not painted yet.

    Args:
        seed: of the whole cohort; each slide gets its own.
        scale: how much coarser pixels are than the study's; 4 gives 1 and 2 µm/px.
        slides: share of the slides and glomeruli of Normal and Sclerosis, above 0 and at most 1; every stain and
            split keeps a slide.

    Raises:
        ConfigError: an argument out of range.
    """
    wrong = {
        f"seed must not be negative; got {seed}": seed < 0,
        f"scale must be 0.2 to 40; got {scale:g}": not 0.2 <= scale <= 40,
        f"slides must be above 0 and at most 1; got {slides:g}": not 0 < slides <= 1,
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise ConfigError(f"phantom cohort: {message}")
    seeds = count(seed * SEEDS_PER_COHORT)
    return StudyPlan(
        normal=tuple(_normal(seeds, MPP_40X * scale, slides)),
        sclerosis=tuple(_sclerosis(seeds, MPP_20X * scale, slides)),
        mixed=_mixed(seeds, MPP_20X * scale),
    )


def write_slide(slide: PlannedSlide, folder: Path, progress: Callable[[int], object] | None = None) -> bool:
    """Write slide and truth, unless they are there as planned; tell whether they were written.

    What a slide was painted from is kept beside it, `.spec.json`, the last file to be written.

    Args:
        slide: what to write.
        folder: of the cohort.
        progress: told the number of rows of pixels done since the last call.

    Raises:
        ConfigError: the wanted glomeruli do not fit into the slide's tissue.
        OutputError: a file cannot be written.
    """
    item = slide.item(folder)
    sidecar = item.image.with_suffix(".spec.json")
    made_from = json.dumps({"bundle": __version__, **asdict(slide.spec)}, indent=1).encode()
    files = (item.image, item.image.with_suffix(".geojson"), sidecar)
    if all(file.is_file() for file in files) and sidecar.read_bytes() == made_from:
        if progress is not None:
            progress(slide.spec.size.height)
        return False
    phantom = Phantom(slide.spec)
    # Emptied first: a run that is killed here would leave new pixels beside the old word on them.
    _write(sidecar, b"")
    write_phantom(phantom, item.image, progress)
    _write(sidecar, made_from)
    return True


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_datalists(plan: StudyPlan, folder: Path, mixed_margin_um: float = 100.0) -> None:
    """Write normal.json, sclerosis.json and mixed.json for the written slides of `plan`.

    Args:
        plan: the cohort.
        folder: where its slides are.
        mixed_margin_um: tissue around a glomerulus in its crop of Mixed, µm.

    Raises:
        SlideReadError: a slide is missing.
        OutputError: a datalist cannot be written.
    """
    normal = _by_split(plan.normal, folder)
    write_datalist(normal, folder / "normal.json")
    write_datalist(_by_split(plan.sclerosis, folder), folder / "sclerosis.json")
    training = list(_mixed_crops(plan.mixed.item(folder), mixed_margin_um))
    write_datalist({"training": training, "validation": normal["validation"]}, folder / "mixed.json")


def _normal(seeds: Iterator[int], mpp: float, share: float) -> Iterator[PlannedSlide]:
    for stain, totals in NORMAL_GLOMERULI.items():
        for splits, total in zip((("training", "validation"), ("test",)), totals, strict=True):
            places = [(split, *place) for split in splits for place in _places(NORMAL_PATIENTS[split], share)]
            study_slides = SLIDES_PER_PATIENT * sum(len(NORMAL_PATIENTS[split]) for split in splits)
            numbers = _spread(total, len(places), study_slides)
            for (split, patient, place), normal in zip(places, numbers, strict=True):
                spec = _spec(next(seeds), stain, NORMAL_SIZE_UM, mpp, (normal, 0, 0))
                yield PlannedSlide(f"normal/{stain}_{patient}_{place}", patient, split, spec)


def _places(patients: Sequence[str], share: float) -> list[tuple[str, int]]:
    """Patient, and number among the patient's, of each slide of one stain; as many patients as the slides allow."""
    slides = _part(SLIDES_PER_PATIENT * len(patients), share)
    owners = [patients[i * len(patients) // slides] for i in range(slides)]
    return [(owner, owners[:i].count(owner) + 1) for i, owner in enumerate(owners)]


def _sclerosis(seeds: Iterator[int], mpp: float, share: float) -> Iterator[PlannedSlide]:
    he_slides, pas_slides = (_part(slides, share) for slides in SCLEROSIS_SLIDES.values())
    both = round(SCLEROSIS_PATIENTS_WITH_BOTH * share)
    patients = {
        "HE": [*range(1, he_slides + 1)],
        "PAS": [*range(1, both + 1), *range(he_slides + 1, he_slides + pas_slides - both + 1)],
    }
    for stain, study_slides in SCLEROSIS_SLIDES.items():
        by_class = (_spread(total, len(patients[stain]), study_slides) for total in SCLEROSIS_GLOMERULI[stain])
        for number, segmental, whole in zip(patients[stain], *by_class, strict=True):
            patient = f"S{number:02d}"
            spec = _spec(next(seeds), stain, SCLEROSIS_SIZE_UM, mpp, (0, segmental, whole))
            yield PlannedSlide(f"sclerosis/{stain}_{patient}", patient, "test", spec)


def _mixed(seeds: Iterator[int], mpp: float) -> PlannedSlide:
    spec = _spec(next(seeds), "HE", SCLEROSIS_SIZE_UM, mpp, (MIXED_GLOMERULI_PER_CLASS,) * 3)
    return PlannedSlide("mixed/HE_M1", "M1", "training", spec)


def _spec(seed: int, stain: Stain, size_um: tuple[int, int], mpp: float, counts: tuple[int, int, int]) -> PhantomSpec:
    width, height = (round(side / mpp) for side in size_um)
    return PhantomSpec(Size(width, height), mpp, stain, seed, counts=counts)


def _part(number: int, share: float) -> int:
    return max(1, round(number * share))


def _spread(total: int, slides: int, study_slides: int) -> list[int]:
    """Numbers of glomeruli on each of `slides`, even to one; in all as many as on `slides` of `study_slides`."""
    wanted = round(total * slides / study_slides)
    return [wanted * (i + 1) // slides - wanted * i // slides for i in range(slides)]


def _by_split(slides: Sequence[PlannedSlide], folder: Path) -> dict[str, list[DatalistItem]]:
    items: dict[str, list[DatalistItem]] = defaultdict(list)
    for slide in slides:
        items[slide.split].append(with_classes(slide.item(folder))[0])
    return items


def _mixed_crops(item: DatalistItem, margin_um: float) -> Iterator[DatalistItem]:
    """The first glomeruli of each class as regions of their slide."""
    taken: Counter[str] = Counter()
    for crop in glomerulus_crops([item.as_dict()], margin_um):
        name = crop["crop"].split()[-1]
        taken[name] += 1
        if taken[name] <= MIXED_CROPS_PER_CLASS:
            yield with_classes(replace(item, region=crop["region"]))[0]
