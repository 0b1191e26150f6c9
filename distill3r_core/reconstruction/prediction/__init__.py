"""Models as predictors, and one pass of a model over the views of a scene."""
