"""What is asked: arms, problems, grading."""
