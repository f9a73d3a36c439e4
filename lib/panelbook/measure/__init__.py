"""What it means: statistics, table in and table out."""
