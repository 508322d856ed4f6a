"""Shift the logits of a network's classes by changing the bias of its last layer: for other class frequencies.

A network trained on drawn or synthetic tiles believes their class frequencies; adding a constant to each class's logit
corrects that (Menon et al. 2021, "Long-tail learning via logit adjustment"). The constants come from validation data.

    python scripts/shift_logits.py runs/default_model/model.pt models/model.pt --shift 0 0 -2 1
"""

import argparse
import sys
from pathlib import Path

import torch

from bundle.atomic import atomic_path
from bundle.errors import BundleError, WeightsError
from bundle.weights import read_checkpoint


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="state dict to read")
    parser.add_argument("out", type=Path, help="state dict to write")
    parser.add_argument("--shift", type=float, nargs="+", required=True, help="added to each class's logit, in order")
    parser.add_argument("--bias", default="final_conv.bias", help="name of the last layer's bias (BasicUNet's)")
    options = parser.parse_args()
    try:
        shift(options.weights, options.out, options.bias, options.shift)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def shift(weights: Path, out: Path, bias: str, by: list[float]) -> None:
    """Write `weights` to `out` with `by` added to the parameter `bias`.

    Raises:
        WeightsError: the weights cannot be read, there is no such parameter, or it has another number of classes.
        OutputError: `out` cannot be written.
    """
    state = read_checkpoint(weights)
    if bias not in state:
        raise WeightsError(f"{weights}: has no {bias}; name the last layer's bias with --bias")
    if len(state[bias]) != len(by):
        raise WeightsError(f"{weights}: {bias} has {len(state[bias])} classes, --shift {len(by)}; give one number each")
    state[bias] = state[bias] + torch.tensor(by)
    with atomic_path(out) as temporary:
        torch.save(state, temporary)


if __name__ == "__main__":
    sys.exit(main())
