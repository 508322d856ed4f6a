"""Colours of a sample's classes, at random: what in-context training looks up in the prompts.

Wang et al., "SegGPT", ICCV 2023, arXiv 2304.03284, section 3. Tasks are palettes too: where one class alone is to be
segmented, the others have the colour of background.
"""

from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bundle.classes import BACKGROUND_INDEX, GLOMERULUS_CLASSES, NUM_CLASSES
from bundle.errors import ConfigError
from bundle.networks.seggpt.colours import palettes

FARTHEST: Final = 200.0
"""Four random colours are seldom farther from each other than this, 8-bit levels; drawing them would not end."""


@cache
def usual_palettes(name: str) -> NDArray[np.float32]:
    """The colours of inference in all their orders, (6, 4, 3) in 0..255; see `bundle.networks.seggpt.colours`.

    Raises:
        ConfigError: there is no palette of that name.
    """
    return palettes(repetitions=6, seed=0, name=name).numpy()


@dataclass(frozen=True)
class Colouring:
    """How a sample's classes are coloured; probabilities, but for the distance.

    Attributes:
        usual: the colours of inference in a random order; otherwise any colours.
        black_background: of any colours, background is black as it is in inference.
        one_class: a class that query and prompts share is painted, the others are background.
        all_alike: all glomeruli have one colour.
        least_distance: of any two colours, 8-bit levels.
        palette: name of the colours of inference.

    Raises:
        ConfigError: a value has no meaning.
    """

    usual: float = 0.5
    black_background: float = 0.5
    one_class: float = 0.2
    all_alike: float = 0.2
    least_distance: float = 100.0
    palette: str = "seggpt"

    def __post_init__(self) -> None:
        chances = (self.usual, self.black_background, self.one_class + self.all_alike)
        if min(*chances, self.one_class, self.all_alike) < 0 or max(chances) > 1:
            raise ConfigError(f"{self}: probabilities must lie in 0 to 1, one_class and all_alike together too")
        if not 0 <= self.least_distance <= FARTHEST:
            raise ConfigError(f"{self}: least_distance must be 0 to {FARTHEST:g} 8-bit levels")

    def draw(self, random: np.random.Generator, shared: int | None) -> NDArray[np.float64]:
        """Colours (4, 3) in 0..255 of background and the classes.

        Args:
            random: the source of chance.
            shared: class that may be painted alone; `None` where there is none.

        Raises:
            ConfigError: there is no `palette` of that name.
        """
        if random.random() < self.usual:
            usual = usual_palettes(self.palette)
            palette = usual[random.integers(len(usual))].astype(float)
        else:
            palette = self._any_colours(random)
        task = random.random()
        if task < self.one_class and shared is not None:
            palette[[c.index for c in GLOMERULUS_CLASSES if c.index != shared]] = palette[BACKGROUND_INDEX]
        elif self.one_class <= task < self.one_class + self.all_alike:
            palette[1:] = palette[1]
        return palette

    def _any_colours(self, random: np.random.Generator) -> NDArray[np.float64]:
        is_black = random.random() < self.black_background
        while True:
            palette = random.uniform(0, 255, (NUM_CLASSES, 3))
            if is_black:
                palette[BACKGROUND_INDEX] = 0
            if min(np.linalg.norm(a - b) for a, b in combinations(palette, 2)) >= self.least_distance:
                return palette
