"""The Java artifacts of the system: their coordinates, versions and checksums, and their download."""
