"""Files that are made to harm: each is refused with a clear error, within seconds and little memory."""

import ast
import json
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.apps.utils import extractall

from bundle.data.annotations import read_annotation
from bundle.errors import AnnotationError, DatalistError, SlideReadError, WeightsError
from bundle.geometry import Size
from bundle.weights import load_weights
from tests.fuzz.targets import Case, write_case
from tests.fuzz.trials import run_cases

ROOT = Path(__file__).resolve().parents[2]


def assert_refused(path: Path, kind: str, error: type[Exception], says: str = "", memory_mb: float = 300) -> None:
    """`path` is a typed error that says `says`, in a child process of bounded memory and time."""
    (outcome,) = run_cases([Case(kind, file=path)], timeout_s=60)
    assert outcome.result == error.__name__, outcome
    assert says in outcome.detail
    assert outcome.memory_mb < memory_mb, outcome


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- weights ---


class Command:
    """Pickled, it runs a shell command when it is loaded."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("save", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_a_checkpoint_that_runs_a_command_is_refused_and_the_command_not_run(save, name, tmp_path):
    mark = tmp_path / "was_here"
    save({"network": {"weight": Command(f"touch {mark}")}}, tmp_path / name)

    with pytest.raises(WeightsError, match=rf"{name}: damaged, or more than tensors"):
        load_weights(torch.nn.Conv2d(3, 4, 3), tmp_path / name)

    assert not mark.exists()


def lying_safetensors(header: dict[str, object] | bytes, stated: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if stated is None else stated) + text + bytes(16)


@pytest.mark.parametrize(
    "content",
    [
        lying_safetensors(b"{}", 2**60),
        lying_safetensors({"weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}),
        lying_safetensors({"weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 16]}}),
        lying_safetensors({"weight": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}}),
        lying_safetensors({"weight": {"dtype": "F32", "shape": [-4], "data_offsets": [16, 0]}}),
        lying_safetensors(b"[" * 100_000),
    ],
    ids=["header length", "past the end", "shape", "overflow", "negative", "nested"],
)
def test_safetensors_whose_header_lies_are_refused(content, tmp_path):
    assert_refused(write(tmp_path / "model.safetensors", content), "weights", WeightsError)


@pytest.mark.parametrize(
    "state", [{1: torch.zeros(1), "a": torch.zeros(1)}, {"network": 3}, {"network": torch.ones(2)}]
)
def test_weights_whose_names_are_no_names_are_refused(state, tmp_path):
    torch.save(state, tmp_path / "model.pt")
    assert_refused(tmp_path / "model.pt", "weights", WeightsError)


# --- archives ---


def called_names(tree: ast.Module) -> set[str]:
    """Functions and methods that are called; `eval` and `exec` as methods are those of networks and databases."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    methods = {call.attr for call in calls if isinstance(call, ast.Attribute)} - {"eval", "exec"}
    return methods | {call.id for call in calls if isinstance(call, ast.Name)}


def test_nothing_of_ours_unpacks_archives_or_runs_what_it_reads():
    """Bundles are unpacked by `python -m monai.bundle download`; see the next test."""
    forbidden = {"extract", "extractall", "unpack_archive", "ZipFile", "TarFile", "Unpickler", "eval", "exec"}
    calls = {
        path.relative_to(ROOT).as_posix(): called_names(ast.parse(path.read_text(encoding="utf-8")))
        for folder in ("bundle", "scripts")
        for path in (ROOT / folder).rglob("*.py")
    }

    assert {"load", "load_file", "isinstance"} <= calls["bundle/weights.py"], "the search finds no calls"
    allowed = {
        "bundle/findings/shots.py": {"extract"},  # of pandas, from texts
        "scripts/release.py": {"ZipFile"},  # writes one
        "scripts/verify_bundle.py": {"ZipFile", "extractall"},  # of names that it has checked
    }
    assert {name: found & forbidden for name, found in calls.items() if found & forbidden} == allowed


def test_a_bundle_archive_that_climbs_out_of_its_folder_is_refused_by_monai(tmp_path):
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as archive:
        archive.writestr("../climbed.txt", "out")

    with pytest.raises(ValueError, match=r"[Uu]nsafe|outside|traversal"):
        extractall(tmp_path / "bundle.zip", tmp_path / "models" / "here", has_base=False)

    assert not (tmp_path / "models" / "climbed.txt").exists()


# --- annotations ---

LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
BILLION_LAUGHS = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>'
QUADRATIC = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l11 "{"ha" * 100_000}">]>'


@pytest.mark.parametrize("bomb", [BILLION_LAUGHS, QUADRATIC], ids=["billion laughs", "quadratic"])
@pytest.mark.parametrize(
    "body",
    [
        f'<Annotations><Annotation Name="{"&l11;" * 1000}"/></Annotations>',
        f"<ASAP_Annotations><Annotations>{'&l11;' * 1000}</Annotations></ASAP_Annotations>",
    ],
    ids=["imagescope", "asap"],
)
def test_an_xml_entity_bomb_is_refused(bomb, body, tmp_path):
    path = write(tmp_path / "a.xml", bomb + body)
    assert_refused(path, "text", AnnotationError, "declares XML entities", memory_mb=50)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.geojson", "[" * 100_000, AnnotationError),
        ("a.json", '{"shapes": ' + "[" * 100_000 + "]" * 100_000 + "}", AnnotationError),
        ("a.geojson", '{"geometry": ' * 100_000 + "1" + "}" * 100_000, AnnotationError),
        ("datalist.json", '{"training": ' + "[" * 100_000 + "]" * 100_000 + "}", DatalistError),
        ("datalist.csv", "split,image,patient,stain,classes\ntest,a,p,s," + "[" * 100_000 + "\n", DatalistError),
        ("a.xml", "<Annotations>" * 100_000 + "</Annotations>" * 99_999, AnnotationError),
    ],
)
def test_a_file_nested_100000_deep_is_refused(name, text, error, tmp_path):
    assert_refused(write(tmp_path / name, text), "text", error)


def geojson(points: list[list[float]]) -> str:
    geometry = {"type": "Polygon", "coordinates": [points]}
    return json.dumps([{"type": "Feature", "geometry": geometry, "properties": {"classification": "Normal"}}])


def test_an_annotation_of_gigabytes_is_refused_before_it_is_read(tmp_path):
    path = write(tmp_path / "a.geojson", "[")
    os.truncate(path, 3_000_000_000)  # sparse: 10 million coordinates with all their decimals

    assert_refused(path, "text", AnnotationError, "too large to read", memory_mb=20)


def test_an_outline_of_a_scribble_is_refused_and_a_long_one_is_not(tmp_path):
    """To mend 20,000 random points, each edge of which crosses thousands of others, would take days."""
    random = np.random.default_rng(0)
    scribble = write(tmp_path / "a.geojson", geojson((random.random((20_000, 2)) * 1000).tolist()))
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    circle = 1000 + 900 * np.column_stack([np.cos(angle), np.sin(angle)])
    circle[100:110] = circle[100:110][::-1].copy()  # one crossing, as hands draw them
    long = write(tmp_path / "b.geojson", geojson(circle.tolist()))

    assert_refused(scribble, "text", AnnotationError, "crosses itself")
    assert read_annotation(long).glomeruli[0].polygon.area == pytest.approx(np.pi * 900**2, rel=1e-3)


def test_a_mended_outline_is_valid_to_the_last_digit(tmp_path):
    """Found by fuzzing: make_valid's own result crosses itself at (40.418118466899, 25.462543554007)."""
    (tmp_path / "valid").mkdir()
    path = write_case(Case("text", 6970), tmp_path / "valid", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert all(g.polygon.is_valid for g in read_annotation(path).glomeruli)


def test_coordinates_that_lie_on_no_slide_are_refused(tmp_path):
    path = write(tmp_path / "a.geojson", geojson([[0, 0], [1e308, 0], [1e308, 1e308]]))
    assert_refused(path, "text", AnnotationError, "lies on no slide")


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("9223372036854775807 9223372036854775807", "runs leave a slide"),
        ("1 9223372036854775807", "runs leave a slide"),
        ("99999999999999999999 1", "no list of pairs of numbers"),
        ("1 200000000", "200000 x 1000 px is no glomerulus"),
    ],
)
def test_run_lengths_past_any_slide_are_refused(encoding, says, tmp_path):
    path = write(tmp_path / "train.csv", f"id,encoding\na,{encoding}\n")
    with pytest.raises(AnnotationError, match=says):
        read_annotation(path, slide_size=Size(200_000, 1000))


def test_a_datalist_resolution_beyond_all_numbers_is_refused(tmp_path):
    for mpp in ("Infinity", "1" + "0" * 400, "NaN"):
        row = f'{{"image": "a", "patient": "p", "stain": "s", "mpp": {mpp}}}'
        path = write(tmp_path / "datalist.json", f'{{"test": [{row}]}}')
        assert_refused(path, "text", DatalistError, "mpp is ")


# --- images ---


def bomb_png(width: int, height: int) -> bytes:
    """A PNG that declares white pixels of a size that it has not."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "error"), [("image", SlideReadError), ("mask", AnnotationError)])
def test_a_png_decompression_bomb_is_refused(kind, error, tmp_path):
    path = write(tmp_path / "bomb.png", bomb_png(200_000, 200_000))
    assert_refused(path, kind, error, "too large", memory_mb=20)


def lying_tiff(path: Path, changes: dict[str, int], **options: object) -> Path:
    """A small valid TIFF whose first directory then declares other numbers."""
    tifffile.imwrite(path, np.full((128, 128, 3), 200, np.uint8), photometric="rgb", metadata=None, **options)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for tag, value in changes.items():
            tiff.pages[0].tags[tag].overwrite(value, dtype="I")
    return path


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"ImageWidth": 60_000, "ImageLength": 60_000}, {"tile": (64, 64)}),
        ({"ImageWidth": 200_000, "ImageLength": 200_000}, {"rowsperstrip": 1}),
        ({"ImageWidth": 200_000, "ImageLength": 200_000, "RowsPerStrip": 200_000}, {"compression": "zlib"}),
        ({"TileWidth": 65_536, "TileLength": 65_536}, {"tile": (64, 64), "compression": "zlib"}),
        ({"TileWidth": 65_536, "TileLength": 65_536}, {"tile": (64, 64), "compression": "jpeg"}),
    ],
    ids=["10 GB in tiles", "200,000 strips", "one strip", "12 GB tile", "12 GB JPEG tile"],
)
@pytest.mark.parametrize(("kind", "error"), [("slide", SlideReadError), ("mask", AnnotationError)])
def test_a_tiff_that_declares_more_than_it_holds_is_refused(kind, error, changes, options, tmp_path):
    assert_refused(lying_tiff(tmp_path / "huge.tif", changes, **options), kind, error)
