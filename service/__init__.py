"""What replication is and how it is done; knows no queue and no web."""
