"""Reading what came from outside with bounds: pickles, arrays, YAML; showing names from files."""
