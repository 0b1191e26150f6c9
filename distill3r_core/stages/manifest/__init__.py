"""Stage `manifest`: photographs, videos and RGB-D frames become rows of one CSV."""

from distill3r_core.stages.manifest.build_stage import ManifestSettings, build_manifest

__all__ = ["ManifestSettings", "build_manifest"]
