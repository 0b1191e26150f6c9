"""Stage `demo`: the whole route on rendered rooms."""

from distill3r_core.stages.demo.run import DemoSettings, demo

__all__ = ["DemoSettings", "demo"]
