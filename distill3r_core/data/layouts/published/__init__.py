"""Layouts of the data sets that the papers train and evaluate on."""
