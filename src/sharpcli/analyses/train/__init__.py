"""Training in several modes or recipes from the same initial weights, and the list of recipes."""

from sharpcli.analyses.train.analysis import train
from sharpcli.analyses.train.recipes import recipes

__all__ = ["recipes", "train"]
