"""Errors of point clouds: what is aligned, and what is measured."""
