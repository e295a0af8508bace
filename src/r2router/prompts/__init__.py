"""A person's own prompts: what they would cost and how good the answers would be, before anything is called."""
