"""A training run: data, model, states, validation, precision, average, stopping."""
