"""Stage `manifest`: photographs, videos and RGB-D frames become rows of one CSV."""

from distill3r_core.stages.manifest.build_stage import build_manifest
from distill3r_core.stages.manifest.manifest_settings import ManifestSettings

__all__ = ["ManifestSettings", "build_manifest"]
