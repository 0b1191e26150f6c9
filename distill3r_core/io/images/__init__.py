"""Images, videos and depth maps in, and how they are fitted to a model."""
