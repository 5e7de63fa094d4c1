"""The rate-limit controller's decisions, without any input or output: `LimitBook` and what it is made of."""
