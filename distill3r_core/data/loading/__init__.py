"""From samples in a cache to batches on a device."""
