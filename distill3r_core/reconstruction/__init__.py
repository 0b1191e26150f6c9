"""What point maps become: cameras, a scale, a clean cloud, files."""
