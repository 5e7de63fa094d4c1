"""Commands for this machine: the local servers, the demo, the doctor."""
