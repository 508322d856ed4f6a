"""Regions in nnU-Net's layout and as NIfTI, MHA and NRRD, checked with nibabel and ITK themselves."""

import json

import itk
import nibabel
import numpy as np
import pytest
from PIL import Image
from shapely.geometry import box

from bundle.data.annotations import Annotation, Glomerulus, read_annotation, write_geojson
from bundle.data.datalist import DatalistItem, load_annotation
from bundle.data.medical import MEDICAL_SUFFIXES, read_medical, write_medical
from bundle.data.regions import export_nnunet, import_nnunet
from bundle.errors import AnnotationError, DatalistError, OutputError
from bundle.geometry import Rect, Size

# ITK's SWIG wrappers warn as they are loaded, which neither we nor the user can help.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")

MASK = np.array([[0, 1, 1, 0], [2, 2, 0, 3], [0, 0, 0, 3]], np.uint8)


@pytest.mark.parametrize("suffix", MEDICAL_SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_an_image_keeps_values_type_rows_and_spacing(tmp_path, suffix, dtype):
    write_medical(MASK.astype(dtype), tmp_path / f"m{suffix}", mpp=0.2521)

    found = read_medical(tmp_path / f"m{suffix}")

    np.testing.assert_array_equal(found.array, MASK)
    assert found.array.dtype == dtype
    assert found.mpp == pytest.approx(0.2521, rel=1e-6)


@pytest.mark.parametrize("suffix", MEDICAL_SUFFIXES)
def test_itk_and_so_3d_slicer_see_the_image_upright_in_millimetres(tmp_path, suffix):
    write_medical(MASK, tmp_path / f"m{suffix}", mpp=0.5)

    image = itk.imread(str(tmp_path / f"m{suffix}"))

    np.testing.assert_array_equal(itk.array_from_image(image), MASK[None])  # ITK's arrays are z, y, x
    assert list(image.GetSpacing()) == pytest.approx([0.0005, 0.0005, 1.0])
    np.testing.assert_allclose(itk.array_from_matrix(image.GetDirection()), np.eye(3))


def test_nibabel_sees_x_first_and_millimetres(tmp_path):
    write_medical(MASK, tmp_path / "m.nii.gz", mpp=0.5)

    image = nibabel.load(tmp_path / "m.nii.gz")

    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, :, 0], MASK.T)
    assert image.header.get_zooms() == pytest.approx((0.0005, 0.0005, 1.0))
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (tmp_path / "m.nii.gz").read_bytes()[:2] == b"\x1f\x8b"  # really compressed
    assert [p.name for p in tmp_path.iterdir()] == ["m.nii.gz"]


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_an_image_that_itk_wrote_is_read_with_its_spacing(tmp_path, suffix):
    image = itk.image_from_array(MASK[None] if suffix == ".nii.gz" else MASK)
    image.SetSpacing([0.0004] * image.GetImageDimension())
    itk.imwrite(image, str(tmp_path / f"m{suffix}"))

    found = read_medical(tmp_path / f"m{suffix}")

    np.testing.assert_array_equal(found.array, MASK)
    assert found.mpp == pytest.approx(0.4)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_an_rgb_image_that_itk_wrote_is_read_rows_first(tmp_path, suffix):
    rgb = np.arange(3 * 4 * 3, dtype=np.uint8).reshape(3, 4, 3)
    itk.imwrite(itk.image_from_array(rgb, ttype=itk.Image[itk.RGBPixel[itk.UC], 2]), str(tmp_path / f"i{suffix}"))

    np.testing.assert_array_equal(read_medical(tmp_path / f"i{suffix}").array, rgb)


def test_an_image_that_nibabel_wrote_is_read_rows_first(tmp_path):
    nibabel.save(nibabel.Nifti1Image(MASK.T[..., None], np.diag([0.002, 0.002, 1, 1])), tmp_path / "m.nii")

    found = read_medical(tmp_path / "m.nii")

    np.testing.assert_array_equal(found.array, MASK)
    assert found.mpp == pytest.approx(2.0)


def test_volumes_oblong_pixels_and_damaged_files_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 9), np.uint8), np.eye(4)), tmp_path / "volume.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 1), np.uint8), np.diag([1, 2, 1, 1])), tmp_path / "oblong.nii")
    (tmp_path / "damaged.nrrd").write_text("NRRD")

    for name, message in (
        ("volume.nii", "one plane"),
        ("oblong.nii", "not square"),
        ("damaged.nrrd", "cannot be read"),
    ):
        with pytest.raises(AnnotationError, match=rf"{name}: .*{message}"):
            read_medical(tmp_path / name)
    with pytest.raises(OutputError, match=r"m\.dcm"):
        write_medical(MASK, tmp_path / "m.dcm", 1.0)


def test_a_nifti_mask_is_an_annotation_like_any_other(tmp_path):
    write_medical(MASK, tmp_path / "m.nii.gz", mpp=1.0)

    annotation = read_annotation(tmp_path / "m.nii.gz", mask_downsample=2.0)

    np.testing.assert_array_equal(annotation.rasterize(0, 0, 4, 3, 2.0), MASK)


@pytest.fixture
def items(tmp_path):
    """A slide with GeoJSON of which one region is meant and the rest is not annotated, and one without annotation."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[::-1]).save(tmp_path / "b.png")
    objects = (Glomerulus(box(20, 10, 40, 30), 1, "Normal"), Glomerulus(box(50, 10, 60, 20), 3, "GGS"))
    write_geojson(Annotation(objects), tmp_path / "a.geojson")
    label = tmp_path / "a.geojson"
    region = Rect(10, 4, 60, 40)
    return {
        "training": [DatalistItem(tmp_path / "a.png", "P1", "HE", label, mpp=0.5, region=region, slide="a 1")],
        "validation": [DatalistItem(tmp_path / "a.png", "P2", "PAS", label, mpp=0.5, complete=False, slide="a 2")],
        "test": [DatalistItem(tmp_path / "b.png", "P3", "PAS", mpp=0.5)],
    }


def loaded(item, width, height):
    return load_annotation(item.as_dict(), Size(width, height), None).rasterize(0, 0, width, height, 1.0)


@pytest.mark.parametrize("ending", [".png", ".nii.gz", ".mha"])
def test_what_goes_out_in_nnunets_layout_comes_back_in(tmp_path, items, ending):
    export_nnunet(items, tmp_path / "Dataset001_Glomeruli", ending)

    found = import_nnunet(tmp_path / "Dataset001_Glomeruli", tmp_path / "converted")

    assert {split: [(i.patient, i.stain, i.slide) for i in group] for split, group in found.items()} == {
        "training": [("P1", "HE", "a_1")],
        "validation": [("P2", "PAS", "a_2")],
        "test": [("P3", "PAS", "b")],
    }
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    train, validation, test = (found[s][0] for s in ("training", "validation", "test"))
    np.testing.assert_array_equal(np.asarray(Image.open(train.image)), pixels[4:44, 10:70])
    np.testing.assert_array_equal(np.asarray(Image.open(test.image)), pixels[::-1])
    assert test.label is None
    assert [i.mpp for i in (train, validation, test)] == pytest.approx([0.5] * 3)
    np.testing.assert_array_equal(loaded(train, 60, 40), loaded(items["training"][0], 60, 40))
    np.testing.assert_array_equal(loaded(validation, 80, 60), loaded(items["validation"][0], 80, 60))
    assert set(np.unique(loaded(validation, 80, 60))) == {1, 3, 255}


def test_dataset_json_is_what_nnunet_asks_for(tmp_path, items):
    export_nnunet(items, tmp_path, ".nii.gz")

    dataset = json.loads((tmp_path / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert list(dataset["labels"].values()) == [0, 1, 2, 3, 4]
    assert list(dataset["labels"])[-1] == "ignore"
    assert (dataset["numTraining"], dataset["file_ending"]) == (2, ".nii.gz")
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*s*/*"))
    assert files[:3] == [f"imagesTr/a_1_000{i}.nii.gz" for i in range(3)]
    assert "labelsTr/a_1.nii.gz" in files
    assert json.loads((tmp_path / "splits_final.json").read_text()) == [{"train": ["a_1"], "val": ["a_2"]}]
    label = nibabel.load(tmp_path / "labelsTr" / "a_2.nii.gz")
    assert set(np.unique(label.dataobj)) == {1, 3, 4}
    assert label.header.get_zooms()[:2] == pytest.approx((0.0005, 0.0005))


def test_regions_are_resampled_on_demand(tmp_path, items):
    export_nnunet(items, tmp_path / "out", ".png", mpp=1.0)

    found = import_nnunet(tmp_path / "out", tmp_path)["training"][0]

    assert found.mpp == 1.0
    assert np.asarray(Image.open(found.image)).shape == (20, 30, 3)
    assert (np.asarray(Image.open(found.label)) == 1).sum() == 10 * 10


def test_a_foreign_data_set_is_training_with_each_case_its_own_patient(tmp_path):
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "imagesTr" / "case_0000.png")
    Image.fromarray(np.array([[0, 1, 2, 0]] * 3, np.uint8)).save(tmp_path / "labelsTr" / "case.png")
    labels = {"background": 0, "glomerulus": 1, "sclerotic": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".png"}))

    found = import_nnunet(tmp_path, tmp_path / "converted", mpp=2.0)

    assert list(found) == ["training"]
    assert (found["training"][0].patient, found["training"][0].mpp) == ("case", 2.0)
    assert loaded(found["training"][0], 4, 3).tolist() == [[0, 1, 3, 0]] * 3


def test_mistakes_in_a_data_set_are_named(tmp_path, items):
    with pytest.raises(DatalistError, match=r"dataset\.json"):
        import_nnunet(tmp_path, tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "whole": [1, 2]}}')
    with pytest.raises(DatalistError, match="region-based"):
        import_nnunet(tmp_path, tmp_path)
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(DatalistError, match="holds no image"):
        import_nnunet(tmp_path, tmp_path)
    with pytest.raises(OutputError, match=r"cannot write '\.jpg'"):
        export_nnunet(items, tmp_path, ".jpg")
    with pytest.raises(DatalistError, match="two items are named 'b'"):
        export_nnunet({"test": items["test"] * 2}, tmp_path)
