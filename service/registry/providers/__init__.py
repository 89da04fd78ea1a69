"""Registry services: their rows, how one is recognised, and what only their own APIs can do."""
