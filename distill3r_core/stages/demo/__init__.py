"""Stage `demo`: the whole route on rendered rooms."""

from distill3r_core.stages.demo.run_demo import DemoSettings, demo

__all__ = ["DemoSettings", "demo"]
