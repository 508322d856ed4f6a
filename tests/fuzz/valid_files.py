"""The small valid files that are mutated: every TIFF layout, annotation format, datalist and weight file that is read.

The same bytes in every run, so that a number names an input for good.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from PIL import Image
from safetensors.torch import save_file

from bundle.data.medical import write_medical

Pixels = npt.NDArray[np.uint8]

_APERIO = "Aperio Image Library v12.0.0\r\n300x220 [0,0 300x220] (64x64) JPEG/RGB Q=90|AppMag = 20|MPP = 0.4990"
_OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="300" SizeY="220" SizeC="3" SizeZ="1" SizeT="1" '
    'PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" PhysicalSizeY="0.5" PhysicalSizeYUnit="µm">'
    '<Channel ID="Channel:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
).encode()
_SPACING = (
    '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" '
    'Element="0x0030" PMSVR="IDoubleArray">&quot;{0}&quot; &quot;{0}&quot;</Attribute></DataObject>'
)
_PHILIPS = (
    '<?xml version="1.0" encoding="UTF-8"?><DataObject ObjectType="DPUfsImport">'
    '<Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray"><Array>'
    '<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" '
    'PMSVR="IString">WSI</Attribute><Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" '
    f'Element="0x8B01" PMSVR="IDataObjectArray"><Array>{_SPACING.format(0.00025)}{_SPACING.format(0.0005)}</Array>'
    "</Attribute></DataObject></Array></Attribute></DataObject>"
)
# (suffix, options of tifffile, levels)
_TIFFS: dict[str, tuple[str, dict[str, object], int]] = {
    "aperio": (".svs", {"compression": "jpeg", "tile": (64, 64), "description": _APERIO}, 3),
    "aperio_j2k": (".svs", {"compression": "APERIO_JP2000_RGB", "tile": (64, 64), "description": _APERIO}, 1),
    "jpeg": (".tif", {"compression": "jpeg", "photometric": "ycbcr", "tile": (64, 64), "resolution": (2e4, 2e4)}, 2),
    "jpeg2000": (".tif", {"compression": "jpeg2000", "tile": (64, 64)}, 2),
    "deflate": (".tif", {"compression": "adobe_deflate", "predictor": True, "tile": (64, 64)}, 3),
    "plain": (".tif", {"tile": (64, 64)}, 2),
    "strips": (".tif", {"compression": "lzw", "rowsperstrip": 32}, 1),
    "ome": (".ome.tif", {"compression": "jpeg", "tile": (64, 64), "description": _OME, "subifds": 2}, 3),
    "webp": (".tif", {"compression": "webp", "tile": (64, 64)}, 1),
    "philips": (".tiff", {"compression": "jpeg", "tile": (64, 64), "description": _PHILIPS, "software": "Philips"}, 2),
    "trestle": (".tif", {"compression": "jpeg", "tile": (64, 64), "software": "MedScan", "description": "A=1;B=2"}, 2),
}
Ring = list[list[float]]
_RING: Ring = [[10, 10], [60, 12], [70, 40.5], [35, 55], [12, 45], [10, 10]]
_HOLE: Ring = [[30, 20], [45, 20], [45, 32], [30, 32], [30, 20]]


def write_slides(folder: Path) -> list[Path]:
    """TIFFs of 300 x 220 pixels: tiles, strips, sub-directories, BigTIFF, five compressions, four vendors' dialects."""
    return [_write_tiff(folder / f"{name}{_TIFFS[name][0]}", *_TIFFS[name][1:]) for name in _TIFFS]


def write_images(folder: Path) -> list[Path]:
    """PNG and JPEG images that are read as slides."""
    paths = [folder / "picture.png", folder / "picture.jpg"]
    for path in paths:
        Image.fromarray(_picture()).save(path)
    return paths


def write_masks(folder: Path) -> list[Path]:
    """Mask images of two objects."""
    mask = np.zeros((48, 64), np.uint8)
    mask[5:20, 5:30], mask[25:40, 30:60] = 1, 3
    tifffile.imwrite(folder / "mask.tif", mask, compression="adobe_deflate", tile=(16, 16), metadata=None)
    paths = [folder / "mask.png", folder / "mask.bmp"]
    for path in paths:
        Image.fromarray(mask).save(path)
    medical = [folder / f"mask{suffix}" for suffix in (".nii", ".mha", ".nrrd")]
    for path in medical:
        write_medical(mask, path, mpp=0.5)
    return [folder / "mask.tif", *paths, *medical]


def write_texts(folder: Path) -> list[Path]:
    """Annotations of every text format, and datalists of both."""
    writers: dict[str, Callable[[], str]] = {
        "qupath.geojson": lambda: json.dumps({"type": "FeatureCollection", "features": _features()}),
        "hubmap.json": lambda: json.dumps(_features()),
        "labelme.json": lambda: json.dumps({"imagePath": "a.jpg", "shapes": _shapes()}),
        "imagescope.xml": _imagescope,
        "asap.xml": _asap,
        "run_lengths.csv": lambda: "id,encoding\nslide,3 5 60 7 110 3\nother,1 1\n",
        "datalist.json": lambda: json.dumps({"name": "x", "training": _items(0), "validation": [], "test": _items(2)}),
        "datalist.csv": _datalist_csv,
    }
    for name, text in writers.items():
        (folder / name).write_text(text(), encoding="utf-8")
    return [folder / name for name in writers]


def write_weights(folder: Path) -> list[Path]:
    """Weights of a tiny network, in both formats."""
    torch.manual_seed(1)
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
    torch.save({"network": state, "epoch": 3}, folder / "model.pt")
    save_file(state, folder / "model.safetensors")
    return [folder / "model.pt", folder / "model.safetensors"]


def _picture() -> Pixels:
    y, x = np.mgrid[:220, :300]
    return np.stack([127 + 100 * np.sin(x / 30), y, 127 + 100 * np.cos((x + y) / 40)], axis=-1).astype(np.uint8)


def _write_tiff(path: Path, options: dict[str, object], count: int) -> Path:
    subifds = options.get("subifds")
    with tifffile.TiffWriter(path, bigtiff=subifds is not None) as tiff:
        for i in range(count):
            # Aperio's second page is a thumbnail in strips, the others are levels.
            is_thumbnail, step = path.suffix == ".svs" and i == 1, 2 ** (i - (path.suffix == ".svs" and i > 1))
            level = np.ascontiguousarray(_picture()[::step, ::step])
            own = {key: value for key, value in options.items() if i == 0 or key not in ("description", "subifds")}
            if is_thumbnail:
                del own["tile"]
            tiff.write(level, metadata=None, subfiletype=int(i > 0), **{"photometric": "rgb", **own})  # type: ignore[arg-type]
    return path


def _features() -> list[dict[str, object]]:
    polygon = {"type": "Polygon", "coordinates": [_RING, _HOLE]}
    parts = {"type": "MultiPolygon", "coordinates": [[_RING], [_HOLE]]}
    properties = {"objectType": "annotation", "classification": {"name": "Normal", "color": [1, 2, 3]}}
    measured = {"classification": {"names": ["Glomerulus", "gs"]}, "measurements": [{"name": "Area", "value": 3.5}]}
    return [
        {"type": "Feature", "id": "a-1", "geometry": polygon, "properties": properties},
        {"type": "Feature", "id": 2, "geometry": parts, "properties": {"classification": "Sclerotic"}},
        {
            "type": "Feature",
            "geometry": {"type": "GeometryCollection", "geometries": [polygon]},
            "properties": {**measured, "classification": {"name": "gs"}},
        },
    ]


def _shapes() -> list[dict[str, object]]:
    return [
        {"label": "gn", "points": _RING, "group_id": None},
        {"label": "gs", "points": [[8, 8], [40, 30]], "shape_type": "rectangle"},
        {"label": "gl", "points": [[50, 50], [50, 60]], "shape_type": "circle"},
    ]


def _imagescope() -> str:
    def region(ring: Ring, number: int, more: str = "") -> str:
        vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring)
        return f'<Region Id="{number}" Type="0" Text="" {more}><Vertices>{vertices}</Vertices></Region>'

    regions = region(_RING, 1) + region(_HOLE, 2, 'NegativeROA="1"') + region(_RING[2:4], 3).replace('"0" T', '"2" T')
    return (
        '<?xml version="1.0" encoding="UTF-8"?><Annotations MicronsPerPixel="0.25">'
        f'<Annotation Id="1" Name="Normal" LineColor="255"><Regions>{regions}</Regions></Annotation></Annotations>'
    )


def _asap() -> str:
    points = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(_RING))
    return (
        '<?xml version="1.0"?><ASAP_Annotations><Annotations>'
        f'<Annotation Name="A" Type="Polygon" PartOfGroup="Normal" Color="#f00"><Coordinates>{points}</Coordinates>'
        f'</Annotation><Annotation Name="B" Type="Spline" PartOfGroup="gs"><Coordinates>{points}</Coordinates>'
        "</Annotation></Annotations><AnnotationGroups/></ASAP_Annotations>"
    )


def _items(start: int) -> list[dict[str, object]]:
    return [
        {
            "image": f"slides/{start + i}.svs",
            "label": f"slides/{start + i}.geojson",
            "patient": f"p{start + i}",
            "stain": "PAS",
            "mpp": 0.5,
            "region": [0, 0, 100, 80],
            "classes": ["normal"],
            "class_map": {"Glom": "normal"},
            "complete": True,
        }
        for i in range(2)
    ]


def _datalist_csv() -> str:
    return (
        "split,image,label,patient,stain,mpp,region,mask_values\n"
        'training,a.svs,a.png,p1,PAS,0.5,"[0, 0, 10, 10]","{""1"": ""normal""}"\n'
        "test,b.svs,,p2,HE,0.25,,\n"
    )
