"""Network parts that students and teachers share."""
