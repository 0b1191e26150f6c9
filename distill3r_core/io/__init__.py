"""Files in and out: pictures, depth, point clouds."""
