"""How good a segmentation is: per class, stain, slide and patient."""

from bundle.evaluation.dice import ClassDice, class_dice

__all__ = ["ClassDice", "class_dice"]
