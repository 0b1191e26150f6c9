"""What is there on the disk: runs with their students, and published weights."""
