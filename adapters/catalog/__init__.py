"""The task catalog as a file and as a topic."""
