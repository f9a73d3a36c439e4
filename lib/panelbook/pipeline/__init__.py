"""In which order: stages, params, one atomic run, the command line."""
