"""Memory and load of the machine while it trains, as figures of a step."""

import torch

from distill3r_core.profiling import memory_use


def machine_usage(device: torch.device) -> dict[str, float]:
    """What is taken of this process's device.

    On a GPU its allocated, reserved and free bytes and, where NVIDIA's management library is
    installed, its utilization in percent; elsewhere the resident bytes of the process.
    """
    use = memory_use(device)
    if use.allocated is None or use.reserved is None or use.free is None:
        return {"rss_bytes": float(use.rss)}
    figures: dict[str, float] = {
        "gpu_allocated_bytes": float(use.allocated),
        "gpu_reserved_bytes": float(use.reserved),
        "gpu_free_bytes": float(use.free),
    }
    try:
        figures["gpu_utilization"] = float(torch.cuda.utilization(device))
    except ModuleNotFoundError:
        return figures  # torch asks pynvml, which is not one of our dependencies
    return figures


def format_machine_usage(figures: dict[str, float]) -> dict[str, str]:
    """The same for people: sizes in GiB."""
    gib = 1024**3
    if "rss_bytes" in figures:
        return {"process": f"{figures['rss_bytes'] / gib:.2f} GiB"}
    text = " · ".join(
        f"{name} {figures[f'gpu_{name}_bytes'] / gib:.2f}"
        for name in ("allocated", "reserved", "free")
    )
    shown = {"GPU memory": f"{text} GiB"}
    if "gpu_utilization" in figures:
        shown["GPU busy"] = f"{figures['gpu_utilization']:.0f}%"
    return shown
