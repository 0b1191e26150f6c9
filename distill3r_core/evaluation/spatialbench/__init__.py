"""SpatialBench's data sets, read as its own readers do (Ropedia/SpatialBench)."""
