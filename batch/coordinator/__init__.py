"""The program that keeps jobs going: feeds chunks, takes results in, tells how the jobs stand."""
