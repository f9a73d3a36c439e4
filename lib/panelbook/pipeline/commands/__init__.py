"""One module for each group of commands of `panelbook`; `cli.py` registers them."""
