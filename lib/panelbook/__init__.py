"""Does a panel of experts search more widely than a monologue? The book, as code."""
