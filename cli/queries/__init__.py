"""Commands that show rows and logs."""
