"""Pure functions behind the jobs: plain values and `now` in, decisions out; no import of pyflink."""
