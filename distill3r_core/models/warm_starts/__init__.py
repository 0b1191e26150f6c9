"""Start a narrow pair student from the weights of a wide pair network."""
