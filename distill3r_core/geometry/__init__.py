"""Pure functions of tensors: cameras, similarities, resampling, metrics."""
