import sys

import numpy as np
import pytest

from bundle.errors import ConfigError
from bundle.findings.extras import extra
from bundle.findings.recognition_calibration import fit_platt


def test_a_package_that_is_there_is_imported():
    assert extra("sklearn.metrics", "lesions").roc_auc_score([0, 1], [0.0, 1.0]) == 1


def test_a_package_that_is_missing_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(
        ConfigError, match=r"^lesions need scikit-learn; install it with `pip install -e '.\[findings\]'`"
    ):
        fit_platt(np.array([0.0, 1.0]), np.array([False, True]))
