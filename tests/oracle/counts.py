"""How much was looked at in this process: what a run of tests prints at its end (tests/support/tally.py).

An oracle that read nothing finds nothing. COUNTS has tags, manifests, blobs and bytes that were read, copies
that were judged, and false successes.
"""

from __future__ import annotations

from collections import Counter

COUNTS: Counter[str] = Counter()
