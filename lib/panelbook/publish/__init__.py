"""What is shown: figures and pages."""
