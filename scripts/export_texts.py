"""What other programs must know of an exported network, each in its own words; for scripts/export.py.

FAST's pipeline is written after FAST's source (smistad/FAST: PatchGenerator, SegmentationNetwork, Pipeline) and
FastPathology's wiki page "Adding custom models"; the model description after bioimage.io's specification 0.4, which
QuPath's documentation (docs/deep/bioimage.md) names.
"""

from datetime import UTC, datetime
from typing import Any

import torch

from bundle.backends.export import INPUT
from bundle.classes import CLASS_NAMES, GLOMERULUS_CLASSES, NUM_CLASSES

MODEL_NAME = "glomeruli"
PROBABILITIES = "probabilities"


def pipeline_text(mpp: float, tile_px: int, overlap: float) -> str:
    """A FAST text pipeline, in the words of FAST's PatchGenerator, SegmentationNetwork and PatchStitcher.

    FAST takes 0.25 µm per pixel for 40x, and a pixel for the class of highest probability over the threshold.
    """
    names = ";".join(("background", *CLASS_NAMES))
    colours = " ".join(f'"{c.index}" "{c.rgb[0]};{c.rgb[1]};{c.rgb[2]}"' for c in GLOMERULUS_CLASSES)
    return f"""PipelineName "Glomeruli segmentation"
PipelineDescription "Normal, segmentally and globally sclerotic glomeruli at {mpp:g} um per pixel. Research only."
PipelineInputData WSI "Whole-slide image"
PipelineOutputData segmentation stitcher 0
Attribute classes "{names}"

### Processing chain

ProcessObject tissue TissueSegmentation
Input 0 WSI

ProcessObject patch PatchGenerator
Attribute patch-size {tile_px} {tile_px}
Attribute patch-magnification {10 / mpp:g}
Attribute patch-overlap {overlap:g}
Input 0 WSI
Input 1 tissue 0

ProcessObject network SegmentationNetwork
Attribute scale-factor 0.003921568627451
Attribute threshold 0
Attribute dimension-ordering "channel-first"
Attribute model "$CURRENT_PATH$/../models/{MODEL_NAME}.onnx"
Input 0 patch 0

ProcessObject stitcher PatchStitcher
Input 0 network 0

### Renderers

Renderer imgRenderer ImagePyramidRenderer
Input 0 WSI

Renderer segRenderer SegmentationRenderer
Attribute border-opacity 0.5
Attribute label-colors {colours}
Input 0 stitcher 0
"""


def bioimage_description(tile_px: int, digest: str) -> dict[str, Any]:
    """rdf.yaml of bioimage.io's model format 0.4.10, which QuPath's extension reads; `digest` is model.ts's SHA-256."""
    scale = {"name": "scale_linear", "kwargs": {"axes": "cyx", "gain": 1 / 255, "offset": 0.0}}
    return {
        "type": "model",
        "format_version": "0.4.10",
        "name": "Glomeruli segmentation",
        "description": f"Probabilities of {', '.join(('background', *CLASS_NAMES))}. Research only.",
        "timestamp": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "authors": [{"name": "The glomeruli bundle developers"}],
        "cite": [{"text": "Souza et al., BMC Nephrology 2025, 26:544", "url": "https://bmcnephrol.biomedcentral.com"}],
        "documentation": "README.md",
        "license": "CC-BY-NC-SA-4.0",
        "tags": ["pathology", "kidney", "glomerulus", "semantic-segmentation"],
        "inputs": [
            {
                "name": INPUT,
                "axes": "bcyx",
                "data_type": "float32",
                "data_range": [0.0, 255.0],
                "shape": [1, 3, tile_px, tile_px],
                "preprocessing": [scale],
            }
        ],
        "outputs": [
            {
                "name": PROBABILITIES,
                "axes": "bcyx",
                "data_type": "float32",
                "data_range": [0.0, 1.0],
                "shape": [1, NUM_CLASSES, tile_px, tile_px],
            }
        ],
        "test_inputs": ["test_input.npy"],
        "test_outputs": ["test_output.npy"],
        "weights": {
            "torchscript": {"source": "model.ts", "sha256": digest, "pytorch_version": torch.__version__.split("+")[0]}
        },
    }
