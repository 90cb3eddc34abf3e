"""The launched evaluation job. Only this package imports torch; the service beside it never imports this package."""
