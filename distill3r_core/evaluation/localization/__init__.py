"""Where views are in a known scene: what is measured, and students that learned no scene."""
