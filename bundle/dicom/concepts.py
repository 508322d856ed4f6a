"""What DICOM results say in codes: the classes, the measurements, the algorithm, the equipment.

DICOM has codes for the kidney, for areas and certainties, but none for glomeruli by their sclerosis. The classes are
coded in a private scheme (its designator starts with 99, as DICOM asks of private ones), unless the user gives codes
of a scheme that his archive knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from highdicom import AlgorithmIdentificationSequence
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.color import CIELabColor
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from bundle import __version__
from bundle.classes import CLASS_NAMES, NORMAL, GlomerulusClass
from bundle.errors import ConfigError

Codes = Mapping[str, Sequence[str]]
"""Class name to (value, coding scheme designator, meaning)."""

NAME = "glomeruli-bundle"
PRIVATE_SCHEME = "99GLOMERULI"

OWN_CODES: Codes = {
    "normal": ("normal", PRIVATE_SCHEME, "Glomerulus without sclerosis"),
    "segmental_sclerosis": ("segmental_sclerosis", PRIVATE_SCHEME, "Glomerulus with segmental sclerosis"),
    "global_sclerosis": ("global_sclerosis", PRIVATE_SCHEME, "Glomerulus with global sclerosis"),
}

KIDNEY: Code = codes.SCT.Kidney
AREA: Code = codes.SCT.Area
SQUARE_MICROMETRE: Code = codes.UCUM.SquareMicrometer
CERTAINTY: Code = codes.DCM.CertaintyOfFinding
PERCENT: Code = codes.UCUM.Percent


def merged_codes(own: Mapping[str, Any] | None) -> Codes:
    """`OWN_CODES`, some of them replaced; `ConfigError` if a class does not exist or a code is no triple of texts."""
    for name, code in (own or {}).items():
        if name not in CLASS_NAMES:
            raise ConfigError(f"DICOM codes: no class {name!r}; classes are {', '.join(CLASS_NAMES)}")
        texts = isinstance(code, list | tuple) and len(code) == 3 and all(isinstance(part, str) for part in code)
        if not texts:
            raise ConfigError(f"DICOM codes: {name} is {code!r}; give [value, coding scheme, meaning], as texts")
    return {**OWN_CODES, **(own or {})}


@dataclass(frozen=True)
class Terms:
    """What an object says beside its geometry.

    Attributes:
        codes: see `Codes`.
        generation: "AUTOMATIC", "SEMIAUTOMATIC" (corrected by hand) or "MANUAL".
        parameters: what the algorithm ran with.
    """

    codes: Codes = field(default_factory=lambda: OWN_CODES)
    generation: str = "AUTOMATIC"
    parameters: Mapping[str, str] = field(default_factory=dict)

    def property_type(self, kind: GlomerulusClass) -> CodedConcept:
        """What the objects of a class are."""
        return CodedConcept(*self.codes[kind.name])

    def algorithm(self) -> AlgorithmIdentificationSequence | None:
        """This bundle in its version; None for what a person drew."""
        if self.generation == "MANUAL":
            return None
        family = codes.DCM.ArtificialIntelligence
        return AlgorithmIdentificationSequence(NAME, family, __version__, parameters=dict(self.parameters) or None)

    def equipment(self) -> dict[str, Any]:
        """Arguments that every highdicom object of ours takes."""
        schemes = {code[1] for code in self.codes.values()}
        own = CodingSchemeIdentificationItem(PRIVATE_SCHEME, name=NAME, responsible_organization=NAME)
        return {
            "manufacturer": NAME,
            "manufacturer_model_name": NAME,
            "software_versions": __version__,
            "device_serial_number": "none",
            "content_label": "GLOMERULI",
            "coding_schemes": [own] if PRIVATE_SCHEME in schemes else None,
        }


def property_category(kind: GlomerulusClass) -> Code:
    """A normal structure, or an abnormal one (DICOM's CID 7150)."""
    return codes.SCT.AnatomicalStructure if kind == NORMAL else codes.SCT.MorphologicallyAbnormalStructure


def display_color(kind: GlomerulusClass) -> CIELabColor:
    """The class's colour in QuPath and overlays, in DICOM's CIELab."""
    return CIELabColor.from_rgb(*kind.rgb)
