"""The published figures are those of the paper."""

import pytest

from bundle.classes import CLASS_NAMES
from bundle.study.published import published


@pytest.mark.parametrize(
    ("table", "level", "stain", "network", "dice"),
    [
        (3, "slides", "PAMS", "Swin+U-Net", 0.850),
        (3, "slides", "ALL", "SegGPT#12", 0.774),
        (4, "slides", "HE", "U-Net3+", 0.575),
        (4, "slides", "ALL", "SegGPT#6", 0.529),
        (5, "slides", "PAS", "U-Net3+", 0.027),
        (5, "crops", "HE", "Swin+U-Net", 0.035),
        (6, "slides", "ALL", "SegGPT#12", 0.400),
        (6, "crops", "ALL", "U-Net", 0.587),
    ],
)
def test_a_figure_is_the_paper_s(table, level, stain, network, dice):
    assert published().tables[table].figures[level, stain, network] == dice


def test_the_tables_are_complete():
    # stains x networks of tables 3 to 6; table 5 is without SegGPT, 5 and 6 have two levels
    assert {n: len(table.figures) for n, table in published().tables.items()} == {3: 20, 4: 15, 5: 2 * 9, 6: 2 * 15}


def test_seggpt_has_no_figures_without_fine_tuning():
    assert {network for _, _, network in published().tables[5].figures} == {"U-Net", "U-Net3+", "Swin+U-Net"}


def test_each_table_is_of_a_class_of_the_bundle():
    assert {table.label for table in published().tables.values()} == set(CLASS_NAMES)


def test_the_source_is_stated():
    assert "BMC Nephrology 2025, 26:544" in published().source
