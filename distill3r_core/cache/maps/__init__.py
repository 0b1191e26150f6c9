"""The codec of point maps and confidences."""
