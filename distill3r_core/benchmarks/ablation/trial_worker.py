"""Worker process that trains and scores one student of the ablation, on one thread."""

import time
from collections.abc import Callable
from dataclasses import asdict

import torch

from distill3r_core.benchmarks.ablation.student_trial import Trial, run_trial
from distill3r_core.stages.benchmark.worker_process import Answer, serve

REPORT_SECONDS = 1.0  # between two answers that report steps


def run(request: Answer, send: Callable[[Answer], None]) -> Answer:
    """Run the trial of a request; the steps since the last answer are sent while it trains."""
    torch.set_num_threads(1)
    started = reported = time.perf_counter()
    steps = 0

    def count_step() -> None:
        nonlocal steps, reported
        steps += 1
        if time.perf_counter() - reported > REPORT_SECONDS:
            send({"steps": steps})  # fails once the parent is gone, which ends this process
            steps, reported = 0, time.perf_counter()

    outcome = run_trial(Trial.from_plain(request), count_step)
    seconds = time.perf_counter() - started
    return {"steps": steps, "outcome": {**asdict(outcome), "seconds": seconds}}


if __name__ == "__main__":
    serve(run)
