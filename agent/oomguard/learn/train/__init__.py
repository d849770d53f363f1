"""Fit the model of a recipe, in folds: nothing that is reported was seen in training."""
