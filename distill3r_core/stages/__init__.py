"""The stages: paths and settings in, a report out; resumable; the same call from Python."""
