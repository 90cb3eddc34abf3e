"""The door: an OpenAI-compatible proxy that splits each route over model versions and measures every one of them."""
