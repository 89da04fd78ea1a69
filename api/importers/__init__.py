"""Files of other tools, read as they are: image-transfer, image-syncer, regsync, skopeo sync, Harbor, lists (ADR 22).

Each format is a module with one function: text in, `Gathered` out. Nothing is dropped in silence: what is not
carried over, or means something else, is a note with its file and line.
"""
