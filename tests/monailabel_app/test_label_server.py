"""The real MONAI Label server, spoken to by its official client and by plain HTTP.

It runs in its own environment: `bash scripts/install_monailabel.sh` makes it, or GLOMERULI_MONAILABEL_PYTHON names its
interpreter.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from shapely.geometry import Polygon, shape

from bundle.data.annotations import Annotation, read_annotation, write_geojson
from bundle.geometry import Size
from bundle.phantom import Phantom, PhantomSpec, write_phantom

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 300
SIDE = 32
"""Of a SegGPT that paints in no time."""

CLIENT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from monailabel.client import MONAILabelClient
client = MONAILabelClient(sys.argv[1])
print(json.dumps([getattr(client, name)(**arguments) for name, arguments in json.loads(sys.argv[2])], default=str))
"""


@dataclass(frozen=True)
class Server:
    """A running server: its address, its interpreter, its folder of slides and that of SegGPT's weights."""

    url: str
    python: Path
    studies: Path
    seggpt_dir: Path

    def client(self, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        """The results of calls of the official client."""
        line = [str(self.python), "-c", CLIENT, self.url, json.dumps(calls)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=600, cwd=self.studies)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def ask(self, model: str, image: str, output: str | None = None, **body: Any) -> tuple[int, bytes]:
        """Status and answer of a request for polygons, by plain HTTP."""
        query = urllib.parse.urlencode({"image": image, **({"output": output} if output else {})})
        request = urllib.request.Request(
            f"{self.url}/infer/wsi/{model}?{query}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=600) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def geojson(self, image: str, location: Sequence[int], size: Sequence[int], **params: Any) -> list[Polygon]:
        """Polygons of a region."""
        body = {"location": location, "size": size, "params": {"output": "geojson"}, **params}
        status, answer = self.ask("glomeruli", image, **body)
        assert status == 200, answer
        return [shape(feature["geometry"]) for feature in json.loads(answer)["features"]]


@pytest.fixture(scope="module")
def python() -> Path:
    given = os.environ.get("GLOMERULI_MONAILABEL_PYTHON")
    found = Path(given) if given else ROOT / ".venv-monailabel" / "bin" / "python"
    if not found.is_file():
        pytest.skip(f"no MONAI Label here ({found}): bash scripts/install_monailabel.sh")
    return found


@pytest.fixture(scope="module")
def server(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves two phantom slides, 1.6 x 1.2 mm."""
    folder = tmp_path_factory.mktemp("label")
    studies = folder / "studies"
    for seed, name in enumerate(("P1", "P2")):
        spec = PhantomSpec(
            size=Size(800, 600), mpp=2.0, class_fractions=(1, 1, 1), glomeruli_per_mm2=12, stain="PAS", seed=seed
        )
        write_phantom(Phantom(spec), studies / f"{name}.tif")
        (studies / f"{name}.geojson").rename(folder / f"{name}.geojson")
    small = folder / "small.yaml"
    small.write_text(f"model_mpp: {448 / SIDE}\nprompt_px: {SIDE}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conf = {"bundle_python": sys.executable, "seggpt_dir": folder / "seggpt", "seggpt_config_files": small}
    line = [str(python), "-m", "monailabel.main", "start_server", "--app", "monailabel", "--studies", str(studies)]
    line += ["--host", "127.0.0.1", "--port", str(port)]
    line += [part for name, value in conf.items() for part in ("--conf", name, str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MONAI_LABEL_SESSION_PATH": str(folder / "sessions")}
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(process, f"http://127.0.0.1:{port}", folder / "server.log")
        yield Server(f"http://127.0.0.1:{port}", python, studies, folder / "seggpt")
    finally:
        process.terminate()
        process.wait(60)


def _wait(process: subprocess.Popen, url: str, log: Path) -> None:
    end = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{url}/info/", timeout=60):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def of_asap(answer: bytes) -> dict[str, list[np.ndarray]]:
    """Rings (n, 2) by class of an ASAP file, as ASAP itself reads it."""
    rings: dict[str, list[np.ndarray]] = {}
    for annotation in ElementTree.fromstring(answer).iter("Annotation"):
        points = sorted(annotation.iter("Coordinate"), key=lambda c: int(c.attrib["Order"]))
        ring = np.array([[float(c.attrib["X"]), float(c.attrib["Y"])] for c in points])
        rings.setdefault(annotation.attrib["PartOfGroup"], []).append(ring)
    return rings


def of_dsa(answer: bytes) -> dict[str, list[np.ndarray]]:
    """Rings by class of the Digital Slide Archive's annotation."""
    rings: dict[str, list[np.ndarray]] = {}
    for element in json.loads(answer)["elements"]:
        assert element["type"] == "polyline"
        assert element["closed"]
        rings.setdefault(element["label"]["value"], []).append(np.array(element["points"])[:, :2])
    return rings


def of_json(answer: bytes) -> dict[str, list[np.ndarray]]:
    """Rings by class of MONAI Label's own JSON."""
    (tile,) = json.loads(answer)["annotations"]
    return {e["label"]: [np.array(ring) for ring in e["contours"]] for e in tile["annotation"]["elements"]}


def same_within_a_pixel(found: dict[str, list[np.ndarray]], path: Path) -> bool:
    """Whether every polygon of a GeoJSON file is there, in its class, its outline within a pixel, and no other."""
    wanted: dict[str, list[Polygon]] = {}
    for feature in json.loads(path.read_text())["features"]:
        outline = shape(feature["geometry"])
        parts = list(outline.geoms) if outline.geom_type == "MultiPolygon" else [outline]
        wanted.setdefault(feature["properties"]["classification"]["name"], []).extend(parts)
    if {name: len(rings) for name, rings in found.items()} != {name: len(parts) for name, parts in wanted.items()}:
        return False
    return all(
        min(Polygon(ring).exterior.hausdorff_distance(part.exterior) for ring in found[name]) <= 1
        for name, parts in wanted.items()
        for part in parts
    )


def agrees_with_the_command(server: Server, image: str, slide: Path, folder: Path) -> int:
    """Ask for a whole slide in every form and compare with the command line's file; gives its number of glomeruli."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.yaml"]
    command += ["--slide", str(slide), "--output_dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    for output, read in (("asap", of_asap), ("dsa", of_dsa), ("json", of_json)):
        status, answer = server.ask("glomeruli", image, output, size=[0, 0])
        assert status == 200, answer
        assert same_within_a_pixel(read(answer), folder / "glomeruli.geojson"), output
    kept = server.studies / "glomeruli" / "predictions" / "glomeruli" / slide.stem
    assert {"glomeruli.geojson", "mask.tif", "overlay.png", "summary.json"} <= {p.name for p in kept.iterdir()}
    return len(read_annotation(folder / "glomeruli.geojson").glomeruli)


def test_the_official_client_is_told_models_trainers_strategies_and_slides(server: Server) -> None:
    info, datastore = server.client(("info", {}), ("datastore", {}))
    assert set(info["models"]) == {"glomeruli", "seggpt"}
    assert all(model["pathology"] for model in info["models"].values())
    assert set(info["trainers"]) == {"glomeruli"}
    assert {"uncertainty", "sclerosis", "uncertainty_and_sclerosis"} <= set(info["strategies"])
    assert info["labels"] == ["normal", "segmental_sclerosis", "global_sclerosis"]
    assert {"P1", "P2"} <= set(datastore["objects"])


def test_asap_dsa_and_json_of_a_phantom_agree_with_glomeruli_geojson(server: Server, tmp_path: Path) -> None:
    assert agrees_with_the_command(server, "P1", server.studies / "P1.tif", tmp_path) >= 5


def test_asap_dsa_and_json_of_a_kidney_agree_with_glomeruli_geojson(
    server: Server, tmp_path: Path, shared_data: Path
) -> None:
    slide = shared_data / "slides" / "kidney" / "PAS_I_4_S_6.tif"
    assert agrees_with_the_command(server, str(slide), slide, tmp_path) >= 5


def whole_and_inner(server: Server) -> tuple[list[Polygon], Polygon]:
    """All glomeruli of P1, and one that lies away from the slide's edge."""
    whole = server.geojson("P1", (0, 0), (0, 0))
    inner = [p for p in whole if p.geom_type == "Polygon" and p.within(shape_of(100, 100, 700, 500))]
    return whole, max(inner, key=lambda p: p.area)


def shape_of(left: int, top: int, right: int, bottom: int) -> Polygon:
    return Polygon([(left, top), (right, top), (right, bottom), (left, bottom)])


def overlap(a: Polygon, b: Polygon) -> float:
    return a.intersection(b).area / a.union(b).area


def test_a_tile_border_through_a_glomerulus_leaves_one_polygon(server: Server) -> None:
    _, glomerulus = whole_and_inner(server)
    x, y = round(glomerulus.centroid.x), round(glomerulus.centroid.y)
    # MONAI Label would cut this request into four tiles that meet in the glomerulus.
    found = server.geojson("P1", (x - 80, y - 80), (160, 160), tile_size=[80, 80])
    (same,) = [p for p in found if p.intersects(glomerulus)]
    assert overlap(same, glomerulus) > 0.9


def test_a_glomerulus_on_the_border_of_two_regions_is_found_whole_by_one_of_them(server: Server) -> None:
    _, glomerulus = whole_and_inner(server)
    # The border is a little right of the middle, in the glomerulus.
    border = round(glomerulus.centroid.x) + 8
    left = server.geojson("P1", (0, 0), (border, 600))
    right = server.geojson("P1", (border, 0), (800 - border, 600))
    (same,) = [p for p in left if overlap(p, glomerulus) > 0.1]
    assert overlap(same, glomerulus) > 0.9
    assert not [p for p in right if overlap(p, glomerulus) > 0.1]


def test_a_region_is_in_pixels_of_its_level(server: Server) -> None:
    whole = server.geojson("P1", (0, 0), (0, 0))
    left = server.geojson("P1", (0, 0), (200, 300), level=1)
    assert len(left) == len([p for p in whole if p.centroid.x < 400])


@pytest.mark.parametrize(
    ("image", "body", "status", "told"),
    [
        ("nobody", {}, 404, "no slide 'nobody'"),
        ("P1", {"location": [5000, 0], "size": [9, 9]}, 422, "lies off the slide of 800 x 600 px"),
        ("P1", {"level": 9}, 422, "has no level 9"),
        ("P1", {"params": {"mpp": "$__import__('os').abort()"}}, 422, "must be a number"),
    ],
)
def test_what_cannot_be_answered_says_why(
    server: Server, image: str, body: dict[str, Any], status: int, told: str
) -> None:
    code, answer = server.ask("glomeruli", image, "json", **body)
    assert code == status
    assert told in json.loads(answer)["detail"]


def write_tiny_seggpt(folder: Path) -> None:
    """Random weights of a SegGPT of side `SIDE`, as published ones are laid out."""
    transformers = pytest.importorskip("transformers")
    values = {"image_size": [2 * SIDE, SIDE], "patch_size": 8, "pretrain_image_size": 48, "hidden_size": 24}
    values |= {"num_hidden_layers": 4, "num_attention_heads": 3, "merge_index": 1, "decoder_hidden_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.SegGptConfig(**values, intermediate_hidden_state_indices=[1, 3])
        transformers.SegGptForImageSegmentation(config).save_pretrained(folder)


def test_labels_train_the_model_prompt_seggpt_and_leave_the_ranking(server: Server, tmp_path: Path) -> None:
    first = {"location": [200, 200], "size": [200, 200]}
    status, answer = server.ask("seggpt", "P2", "json", **first)
    assert status == 422
    assert "SegGPT's weights are not installed; get them once with `hf download" in json.loads(answer)["detail"]

    labels = {name: server.studies.parent / f"{name}.geojson" for name in ("P1", "P2")}
    (ranked,) = server.client(("next_sample", {"strategy": "uncertainty_and_sclerosis", "params": {"budget_s": 999}}))
    assert {slide["image"] for slide in ranked["ranking"]} >= {"P1", "P2"}
    assert not ranked["not_ranked"]
    few = read_annotation(labels["P1"])
    write_geojson(Annotation(few.glomeruli[:4]), tmp_path / "few.geojson")
    submit = {"image_id": "P1", "label_in": str(tmp_path / "few.geojson"), "params": {"complete": False}}
    server.client(("save_label", submit), ("save_label", {"image_id": "P2", "label_in": str(labels["P2"])}))

    write_tiny_seggpt(server.seggpt_dir)
    status, answer = server.ask("seggpt", "P2", "json", **first)
    assert status == 200, answer
    prompts = (server.studies / "glomeruli" / "prompts.yaml").read_text()
    assert "labels/final/P1.geojson" in prompts
    assert "complete: false" in prompts

    options = {"max_epochs": 1, "tiles_per_epoch": 4, "train_batch_size": 2, "val_split": 0.5}
    server.client(("train_start", {"model": "glomeruli", "params": options}))
    assert trained(server) == "DONE"
    info, sample = server.client(
        ("info", {}), ("next_sample", {"strategy": "uncertainty", "params": {"budget_s": 999}})
    )
    assert info["train_stats"]["glomeruli"]["labelled_slides"] == 2
    assert info["train_stats"]["glomeruli"]["published"]
    assert (server.studies / "glomeruli" / "models" / "glomeruli.pt").is_file()
    assert not {"P1", "P2"} & {slide["image"] for slide in sample.get("ranking", [])}


def trained(server: Server) -> str:
    """How the training ended."""
    while True:
        with urllib.request.urlopen(f"{server.url}/train/", timeout=600) as response:
            task = json.loads(response.read())
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            assert task["status"] == "DONE", task["details"]
            return str(task["status"])
        time.sleep(1)
