"""Optimizers and learning-rate schedules by their names in option files."""
