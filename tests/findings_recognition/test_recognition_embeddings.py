"""Crops from datalists, and the file of embeddings."""

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from PIL import Image

from bundle.errors import FindingsError
from bundle.findings.embedding import embed_crops, read_embeddings
from bundle.findings.embedding_crops import DatalistCrops, open_crops
from tests.findings_recognition.lesion_cohort import MPP, SIDE_PX, write_images


class MeanColour:
    """An encoder of three numbers that counts its calls."""

    def __init__(self, name="mean"):
        self.name = name
        self.seen = []

    def __call__(self, images, masks):
        self.seen.append(len(images))
        return np.stack([image[mask].mean(0) for image, mask in zip(images, masks, strict=True)]).astype(np.float32)

    def describe(self):
        return {"encoder": self.name}


@pytest.fixture(scope="module")
def datalist(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), ("N_1", "S_1"), 3)


def test_a_datalist_s_crops_are_its_images_and_masks(datalist):
    crops = open_crops(datalist, SIDE_PX, MPP)
    assert len(crops) == len(crops.table) == 6
    first = crops.table.iloc[1]
    assert first.to_dict() == {
        "entity_id": "N_1-1/1", "slide": "N_1-1", "patient": "N_1", "stain": "PAS", "class": "global_sclerosis",
        "row": 1,
    }  # fmt: skip
    image, mask = crops.read(1)
    drawn = np.asarray(Image.open(datalist.parent / "N_1-1_mask.png")) > 0
    # The outline's middle is the crop's, up to half a pixel.
    assert int(mask.sum()) == pytest.approx(int(drawn.sum()), rel=0.05)
    stored = np.asarray(Image.open(datalist.parent / "N_1-1.png"))
    np.testing.assert_allclose(image[mask > 0].mean(0), stored[drawn].mean(0), atol=3)
    crops.close()


def test_a_crop_at_half_the_resolution_shows_twice_as_much(datalist):
    crops = open_crops(datalist, SIDE_PX, 2 * MPP)
    image, mask = crops.read(0)
    whole = open_crops(datalist, SIDE_PX, MPP)
    assert 4 * int(mask.sum()) == pytest.approx(int(whole.read(0)[1].sum()), rel=0.05)
    assert (image[:8] == 255).all()  # off the image
    crops.close()
    whole.close()


def test_a_crop_store_has_to_be_given():
    with pytest.raises(FindingsError, match="no such crop store or datalist; give one with --crops"):
        open_crops(None)


def test_two_items_of_one_name_are_an_error(datalist):
    items = open_crops(datalist, SIDE_PX, MPP).items
    with pytest.raises(FindingsError, match="comes twice; give each item its own `slide`"):
        DatalistCrops([items[0], items[0]], SIDE_PX, MPP)


def test_embeddings_are_a_table_that_others_read(datalist, tmp_path):
    crops = open_crops(datalist, SIDE_PX, MPP)
    made = embed_crops(crops, MeanColour(), tmp_path / "e.parquet", batch_size=4, progress=False)
    others = pd.read_parquet(tmp_path / "e.parquet")
    assert others["entity_id"].tolist() == crops.table["entity_id"].tolist()
    np.testing.assert_array_equal(np.stack(others["embedding"]), made.values)
    image, mask = crops.read(4)
    np.testing.assert_allclose(made.values[4], image[mask > 0].mean(0), rtol=1e-5)
    assert pyarrow.parquet.ParquetFile(tmp_path / "e.parquet").num_row_groups == 2
    assert [p.name for p in tmp_path.iterdir()] == ["e.parquet"]
    crops.close()


def test_embeddings_are_made_once_for_an_encoder(datalist, tmp_path):
    crops = open_crops(datalist, SIDE_PX, MPP)
    path = tmp_path / "e.parquet"
    first, again, other = MeanColour(), MeanColour(), MeanColour("other")
    made = embed_crops(crops, first, path, batch_size=4, progress=False)
    found = embed_crops(crops, again, path, progress=False)
    embed_crops(crops, other, path, progress=False)
    assert (first.seen, again.seen, other.seen) == ([4, 2], [], [6])
    np.testing.assert_array_equal(found.values, made.values)
    assert read_embeddings(path).encoder == {"encoder": "other"}


def test_a_broken_encoder_leaves_no_file(datalist, tmp_path):
    class Broken(MeanColour):
        def __call__(self, images, masks):
            if self.seen:
                raise FindingsError("broken")
            return super().__call__(images, masks)

    crops = open_crops(datalist, SIDE_PX, MPP)
    with pytest.raises(FindingsError, match="broken"):
        embed_crops(crops, Broken(), tmp_path / "e.parquet", batch_size=4, progress=False)
    assert list(tmp_path.iterdir()) == []
    crops.close()


def test_a_file_of_something_else_is_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("nothing")
    for name in ("a.parquet", "b.parquet"):
        with pytest.raises(FindingsError, match="holds no embeddings"):
            read_embeddings(tmp_path / name)
