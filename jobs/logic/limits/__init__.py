"""Rate limits: decisions, their explanation, their replay."""
