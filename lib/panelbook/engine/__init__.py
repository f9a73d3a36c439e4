"""Who answers: prompts to tokens, gradients to weights."""
