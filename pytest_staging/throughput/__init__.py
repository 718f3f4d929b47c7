"""The throughput policy at work: a pure state machine, its state on disk, telemetry, the API and its clients."""
