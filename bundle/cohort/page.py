"""The page of a cohort: one self-contained HTML file with a thumbnail and the counts of every slide."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment
from PIL import Image

from bundle.classes import GLOMERULUS_CLASSES

if TYPE_CHECKING:
    from bundle.cohort.summary import Row

THUMBNAIL_PX: Final = 240
JPEG_QUALITY: Final = 75

TEMPLATE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Cohort</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
table { border-collapse: collapse }
th, td { padding: .4em .8em; border-bottom: 1px solid #ccc; text-align: left; vertical-align: top }
th { position: sticky; top: 0; background: #fff }
td.number { text-align: right; font-variant-numeric: tabular-nums }
tr.failed { background: #fdecea }
img { display: block; max-width: {{ thumbnail_px }}px }
.key { display: inline-block; width: .8em; height: .8em }
.file { color: #666; font-size: 85%; overflow-wrap: anywhere }
</style>
</head>
<body>
<h1>Cohort</h1>
<p>{{ overview }}</p>
<table>
<thead><tr><th></th><th>slide</th><th>status</th>
{% for class in classes %}
<th><span class="key" style="background: rgb{{ class.rgb }}"></span> {{ class.name.replace("_", " ") }}</th>
{% endfor %}
<th>% globally sclerotic</th><th>seconds</th></tr></thead>
<tbody>
{% for row, thumbnail in rows %}
<tr class="{{ row.status }}">
<td>{% if thumbnail %}<img src="{{ thumbnail }}" alt="{{ row.slide }} with outlines">{% endif %}</td>
<td>{{ row.slide }}<div class="file">{{ row.image }}</div></td>
<td>{{ row.status }}{% if row.reason %}<br>{{ row.reason }}{% endif %}</td>
{% for class in classes %}<td class="number">{{ row.counts.get(class.name, "") }}</td>{% endfor %}
<td class="number">{{ "" if row.percent_globally_sclerotic is none else row.percent_globally_sclerotic }}</td>
<td class="number">{{ "" if row.seconds is none else row.seconds }}</td>
</tr>
{% endfor %}
</tbody>
</table>
<p>For research, not for diagnosis.</p>
</body>
</html>
"""


def page(rows: Sequence["Row"], overview: str) -> str:
    """The HTML of the page; names of files are escaped.

    Args:
        rows: one a slide; the thumbnail is made of overlay.png in its folder, where there is one.
        overview: the line above the table.
    """
    template = Environment(autoescape=True, trim_blocks=True).from_string(TEMPLATE)
    shown = [(row, _thumbnail(row.folder / "overlay.png") if row.status == "done" else None) for row in rows]
    return template.render(rows=shown, overview=overview, classes=GLOMERULUS_CLASSES, thumbnail_px=THUMBNAIL_PX)


def _thumbnail(overlay: Path) -> str | None:
    """The picture scaled down, as a data URI."""
    if not overlay.is_file():
        return None
    with Image.open(overlay) as picture:
        small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
