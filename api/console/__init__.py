"""The console's pages and files; no code of ours runs from here."""
