"""What the services share: contracts, messaging, storage, leases, telemetry. Knows no service."""
