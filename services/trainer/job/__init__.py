"""The training job: a process of its own, launched per attempt. Needs torch; the service does not."""
