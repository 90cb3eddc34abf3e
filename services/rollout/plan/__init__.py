"""What a policy will do at some traffic, simulated with the controller's own reducer. A process, without other I/O."""
