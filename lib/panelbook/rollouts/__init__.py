"""What was said: the tables everything downstream reads."""
