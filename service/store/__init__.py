"""SQL tables and the repositories over them: the truth about rules and executions."""
