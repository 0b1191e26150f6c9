"""Files in and out: images, depth, point clouds."""
