"""The oracle: what is true, asked of registries, logs and dumps, never of the product's own books.

Imports nothing of the product and nothing of the tests' helpers; test_independence holds it to that. What
should be at a destination is what the *test* says: its pushes (`pushes`), its own model of names. A test
states how much it expects to be looked at, so that an oracle which read nothing is red.
"""
