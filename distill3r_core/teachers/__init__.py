"""Who is asked: teachers, and the one export step that turns their maps into targets."""
