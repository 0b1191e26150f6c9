"""Refine the poses of a reconstruction: direct image alignment on the depth of its own maps."""
