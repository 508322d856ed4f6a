"""The HTML of the findings page of a slide: one self-contained file, every name in it escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jinja2 import Environment

TEMPLATE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Findings: {{ title }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1080px; padding: 0 1em; color: #222;
  background: #fff }
h1 { margin-bottom: 0; overflow-wrap: anywhere } h2 { margin: 1.8em 0 .3em } .facts, .note { color: #555 }
.note { font-size: 87%; max-width: 52em }
.row { display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start }
.row > img { max-width: 100% } .summary { margin-top: 1em }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 1em }
.card { border: 1px solid #ddd; border-radius: 6px; padding: .6em; font-size: 87%; overflow: hidden }
.card > img, .card > .nocrop { display: block; width: 100%; aspect-ratio: 1; margin-bottom: .4em; object-fit: cover }
.nocrop { background: #f3f4f6; color: #888; text-align: center; padding-top: 40%; box-sizing: border-box }
.id { color: #777; font: 11px ui-monospace, monospace; overflow-wrap: anywhere }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 50% }
table { border-collapse: collapse; width: 100% } td { padding: 1px 0; vertical-align: middle }
td.name { overflow-wrap: anywhere } td.z { text-align: right; width: 3.2em; font-variant-numeric: tabular-nums }
td.bar { width: 62px; padding-left: 6px }
.track { position: relative; height: 9px; background: #f0f2f4 } .track span { position: absolute; top: 0; height: 9px }
.track::after { content: ""; position: absolute; left: 50%; top: 0; height: 9px; border-left: 1px solid #888 }
.summary { width: auto }
.summary td, .summary th { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: left }
.summary td.n { text-align: right; font-variant-numeric: tabular-nums }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="facts">{{ facts }}</p>
<h2>Sizes and classes</h2>
<div class="row">
<img src="{{ sizes }}" alt="areas by class, slide and cohort">
<img src="{{ classes }}" alt="percentage of each class, slide and cohort">
</div>
<table class="summary">
<tr><th></th><th>this slide</th><th>cohort</th></tr>
{% for name, slide, cohort in rows %}
<tr><td>{{ name }}</td><td class="n">{{ slide }}</td><td class="n">{{ cohort }}</td></tr>
{% endfor %}
</table>
<p class="note">Grey: the cohort ({{ cohort }}), with its median. Colour: this slide; the black lines are 95 % intervals
(Clopper-Pearson). {{ rank }}</p>
<h2>Profile</h2>
<img src="{{ profile }}" alt="robust z of the slide's glomeruli by feature">
<p class="note">A slide that lies aside as a whole may be so for its stain or scanner and not for its patient.</p>
{% for heading, cards in sections %}
<h2>{{ heading }}</h2>
<div class="cards">
{% for card in cards %}
<div class="card">
{% if card.crop %}<img src="{{ card.crop }}" alt="crop of {{ card.entity }}">
{% else %}<div class="nocrop">no crop</div>{% endif %}
<div><span class="key" style="background: {{ card.colour }}"></span> <b>{{ card.label }}</b>, {{ card.area }}</div>
<div>distance {{ "%.1f"|format(card.distance) }}, {{ card.position }}</div>
<table>
{% for name, z, left, width, shade in card.bars %}
<tr><td class="name">{{ name }}</td><td class="z">{{ "%+.1f"|format(z) }}</td>
<td class="bar"><div class="track">
<span style="left: {{ left }}%; width: {{ width }}%; background: {{ shade }}"></span>
</div></td></tr>
{% endfor %}
</table>
<div class="id">{{ card.entity }}</div>
</div>
{% endfor %}
</div>
{% endfor %}
<p class="note">Distance: Mahalanobis' over robust z of {{ features }} features, {{ method }}; the rows of a card are
the features farthest from the cohort's median, in robust standard deviations.
{% if left_out %}Without part in it: {% for name, reason in left_out.items() %}
{{ name }} ({{ reason }}){{ ", " if not loop.last else "." }}
{% endfor %}{% endif %}</p>
<p class="note">{{ provenance }} For research, not for diagnosis.</p>
</body>
</html>
"""

Z_END: Final = 5.0
"""Robust z at the end of a bar."""


@dataclass(frozen=True)
class Card:
    """One glomerulus on the page.

    Attributes:
        entity: its id.
        label: its class, to read.
        colour: of the class.
        area: to read, with its unit.
        distance: from the cohort.
        position: share of the cohort that is nearer, to read.
        drivers: its features farthest from the cohort's median, with their z.
        crop: data URI of its picture, where there is one.
    """

    entity: str
    label: str
    colour: str
    area: str
    distance: float
    position: str
    drivers: Sequence[tuple[str, float]]
    crop: str | None

    @property
    def bars(self) -> list[tuple[str, float, float, float, str]]:
        """Of each driver: name, z, left end and width of its bar (% of the track), colour."""
        bars = []
        for name, z in self.drivers:
            width = 50 * min(abs(z), Z_END) / Z_END
            bars.append((name, z, 50 - width if z < 0 else 50.0, width, "#4c78a8" if z < 0 else "#c8102e"))
        return bars


def page(
    *,
    title: str,
    facts: str,
    pictures: Mapping[str, str],
    rows: Sequence[tuple[str, str, str]],
    cohort: str,
    rank: str,
    sections: Sequence[tuple[str, Sequence[Card]]],
    features: int,
    method: str,
    left_out: Mapping[str, str],
    provenance: str,
) -> str:
    """The HTML.

    Args:
        title: the slide.
        facts: the line below it.
        pictures: data URIs of sizes, classes and profile.
        rows: name, the slide's figure and the cohort's.
        cohort: what the cohort is.
        rank: where the slide lies among the cohort's slides; a sentence.
        sections: heading and cards.
        features: number of features in the distance.
        method: how the covariance was estimated.
        left_out: features that are not, and why.
        provenance: what the page was made from.
    """
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE)
    return template.render(
        title=title,
        facts=facts,
        **pictures,
        rows=rows,
        cohort=cohort,
        rank=rank,
        sections=sections,
        features=features,
        method=method,
        left_out=left_out,
        provenance=provenance,
    )
