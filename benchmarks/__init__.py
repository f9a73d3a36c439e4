"""Timings of the book, each as a ratio against a simple reference measured in the same run."""
