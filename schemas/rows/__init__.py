"""One pydantic model for each topic's row, by subject."""
