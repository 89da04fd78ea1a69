"""Celery: carries service.replication to many machines."""
