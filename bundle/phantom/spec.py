"""What a phantom slide is made from: all that decides its pixels."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from bundle.errors import ConfigError
from bundle.geometry import Size

Stain = Literal["HE", "PAS", "PAMS"]
STAINS: Final[tuple[Stain, ...]] = get_args(Stain)


@dataclass(frozen=True)
class PhantomSpec:
    """A phantom slide, reproducible to the pixel.

    Attributes:
        size: level 0, pixels.
        mpp: micrometres per level-0 pixel.
        stain: "HE", "PAS" or "PAMS".
        seed: not negative; another seed is another kidney, another staining day and another scan.
        glomeruli_per_mm2: wanted per mm² of tissue; fewer are placed where no more fit.
        class_fractions: shares of normal, segmentally and globally sclerotic glomeruli; any positive scale.
        counts: numbers of normal, segmentally and globally sclerotic glomeruli, exactly, in place of
            `glomeruli_per_mm2` and `class_fractions`; `lay_out` raises where they do not fit.
        cores: biopsy cores on the glass; None takes one per 1.7 mm of the shorter side.
        origin: (x, y) of the world's pixel that is the slide's pixel (0, 0). Another origin shows the same kidney
            shifted: pixel (x, y) of origin (dx, dy) is pixel (x + dx, y + dy) of origin (0, 0).
        oracle: paint flat colours per class (`ORACLE_RGB`) instead of tissue: the picture is the truth.

    Raises:
        ConfigError: a value that makes no slide.
    """

    size: Size
    mpp: float = 0.25
    stain: Stain = "PAS"
    seed: int = 0
    glomeruli_per_mm2: float = 4.0
    class_fractions: tuple[float, float, float] = (0.6, 0.15, 0.25)
    cores: int | None = None
    origin: tuple[int, int] = (0, 0)
    oracle: bool = False
    counts: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        wrong = {
            "size must be at least 1x1": min(self.size.width, self.size.height) < 1,
            "mpp must be 0.05 to 20": not 0.05 <= self.mpp <= 20,
            f"stain must be one of {', '.join(STAINS)}": self.stain not in STAINS,
            "seed must not be negative": self.seed < 0,
            "glomeruli_per_mm2 must not be negative": self.glomeruli_per_mm2 < 0,
            "class_fractions must be three numbers, none negative, not all zero": len(self.class_fractions) != 3
            or min(self.class_fractions) < 0
            or sum(self.class_fractions) <= 0,
            "cores must be at least 1": self.cores is not None and self.cores < 1,
            "counts must be three numbers, none negative": self.counts is not None
            and (len(self.counts) != 3 or min(self.counts) < 0),
        }
        for message, is_wrong in wrong.items():
            if is_wrong:
                raise ConfigError(f"phantom slide: {message}; got {self}")

    @property
    def size_um(self) -> tuple[float, float]:
        """Width and height, micrometres."""
        return self.size.width * self.mpp, self.size.height * self.mpp
