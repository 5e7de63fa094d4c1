"""The parts of the system that are Java: which, in which version, and how they get onto this machine."""
