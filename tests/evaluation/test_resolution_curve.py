"""scripts/resolution_curve.py: the table of trainings that are done, against scores counted by hand."""

import runpy

import pandas as pd
import pytest

from tests.oracle import ROOT

IMAGES = pd.DataFrame(
    {
        "stain": ["HE", "HE", "PAS"],
        "dice_glomerulus": [0.8, 0.6, 0.5],
        "dice_global_sclerosis": [None, 0.4, None],
        **{
            f"{what}_{kind}": counts
            for kind in ("glomerulus", "global_sclerosis")
            for what, counts in (
                ("true_positives", [3, 0, 1]),
                ("false_positives", [1, 0, 1]),
                ("false_negatives", [0, 2, 0]),
            )
        },
    }
)


def test_finished_trainings_become_rows_and_are_not_run_again(tmp_path):
    for mpp in ("16", "8"):
        (tmp_path / f"mpp_{mpp}" / "evaluation" / "slides").mkdir(parents=True)
        (tmp_path / f"mpp_{mpp}" / "cpu_min").write_text("1.50")
        IMAGES.to_csv(tmp_path / f"mpp_{mpp}" / "evaluation" / "slides" / "per_image.csv", index=False)
    main = runpy.run_path(str(ROOT / "scripts" / "resolution_curve.py"))["main"]
    lists = [f"--{name}={tmp_path / 'none.json'}" for name in ("datalist", "paste_datalist", "evaluation")]
    folders = [f"--work_dir={tmp_path}", f"--output_dir={tmp_path / 'out'}"]
    assert main([*lists, *folders, "--mpp", "16", "8", "--megapixels", "8.192"]) == 0
    found = pd.read_csv(tmp_path / "out" / "resolution.csv")
    assert found["steps"].tolist() == [1000, 250]  # of 8 tiles of 32 x 32 and of 64 x 64 pixels
    assert found["dice_glomerulus"].tolist() == pytest.approx([0.6333, 0.6333])
    assert found.loc[0, ["dice_HE", "dice_PAS", "dice_global_sclerosis"]].tolist() == pytest.approx([0.7, 0.5, 0.4])
    assert found.loc[0, "f1_glomerulus"] == pytest.approx(2 / 3, abs=1e-4)  # 4 found, 2 false, 2 missed
    assert (found["network_cpu_s_per_mm2"] > 0).all()
    assert (tmp_path / "out" / "resolution.png").stat().st_size > 1000
