"""What the operating system gives and refuses: memory, threads, signals, disks."""
