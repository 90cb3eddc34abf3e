"""The independent services. They meet only in ``shared`` and on Kafka."""
