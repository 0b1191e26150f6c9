"""One step of training and what surrounds it: schedule, checkpoints, faults."""
