"""From folders of pictures to samples, and from caches to batches."""
