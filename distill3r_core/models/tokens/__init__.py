"""What several families of students share: the views of a sample become tokens."""
