"""How good a segmentation is: per class, stain, slide and patient."""

from bundle.evaluation.boundary import BoundaryDistance, hd95_um
from bundle.evaluation.dice import ClassDice, class_dice
from bundle.evaluation.instance_table import InstanceQuality
from bundle.evaluation.instances import Detection, InstanceScores, instance_scores
from bundle.evaluation.statistics import bootstrap_interval, bootstrap_ratio, paired_test, paired_tests
from bundle.evaluation.stratified import ClassStratifiedDice, StratifiedDice, stratified_dice

__all__ = [
    "BoundaryDistance",
    "ClassDice",
    "ClassStratifiedDice",
    "Detection",
    "InstanceQuality",
    "InstanceScores",
    "StratifiedDice",
    "bootstrap_interval",
    "bootstrap_ratio",
    "class_dice",
    "hd95_um",
    "instance_scores",
    "paired_test",
    "paired_tests",
    "stratified_dice",
]
