"""Reports of executions: what they came to, as JSON and as a page to be mailed."""
