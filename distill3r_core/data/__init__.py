"""From folders of images to samples, and from caches to batches."""
