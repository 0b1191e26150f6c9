"""Two reconstructions of the same images side by side."""
