"""The whole system on one machine: real Kafka protocol, real S3, real Prometheus, every service its own process."""
