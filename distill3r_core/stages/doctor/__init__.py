"""Stage `doctor`: what this machine has, lacks and is ready for."""

from distill3r_core.stages.doctor.run_checks import doctor

__all__ = ["doctor"]
