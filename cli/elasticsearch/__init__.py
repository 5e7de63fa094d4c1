"""Commands that write and maintain indices."""
