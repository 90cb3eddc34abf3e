"""The commands, a module each; every module adds itself to the application with `register`."""
