"""How good a segmentation is: per class, stain, slide and patient."""

from bundle.evaluation.boundary import hd95_um
from bundle.evaluation.dice import ClassDice, class_dice
from bundle.evaluation.instances import Detection, InstanceScores, instance_scores
from bundle.evaluation.statistics import bootstrap_interval, intervals, paired_test, paired_tests
from bundle.evaluation.stratified import StratifiedDice, stratified_dice

__all__ = [
    "ClassDice",
    "Detection",
    "InstanceScores",
    "StratifiedDice",
    "bootstrap_interval",
    "class_dice",
    "hd95_um",
    "instance_scores",
    "intervals",
    "paired_test",
    "paired_tests",
    "stratified_dice",
]
